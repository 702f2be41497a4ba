import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import type { EngineContext } from '../../../src/engine/context.ts';
import { builtInCapabilities } from '../../../src/engine/lifecycle/capabilities.ts';
import { jailDirectory } from '../../../src/host/drivers/firecracker/jail.ts';
import { resolveLayout, vmPaths } from '../../../src/state/layout.ts';
import type { Vm } from '../../../src/state/vms.ts';

test('a VM whose VMM has gone keeps what is its own and loses its jail; one that is deleted loses all', async () => {
  const home = mkdtempSync(join(tmpdir(), 'banger-jail-removal-'));
  onTestFinished(() => rmSync(home, { recursive: true, force: true }));
  const env = { BANGER_HOME: join(home, 'b') };
  const layout = resolveLayout({ env, home, uid: process.getuid!(), temporaryDirectory: home });
  const id = '0123456789abcdef'.repeat(2);
  const paths = vmPaths(layout, id);
  const kept = join(home, 'kept');
  mkdirSync(kept);
  writeFileSync(join(kept, 'file'), '');
  const plant = (): void => {
    const inside = join(jailDirectory(paths.vmmLog), 'firecracker', `banger-${id}`, 'root');
    mkdirSync(inside, { recursive: true });
    symlinkSync(kept, join(inside, 'disk'));
  };
  plant();
  writeFileSync(paths.vmmLog, '');
  const directory = builtInCapabilities.find(({ name }) => name === 'directory')!;
  const context = { layout } as EngineContext;
  const vm = { id, controlSocket: paths.controlSocket } as Vm;

  await directory.afterStop?.(context, vm);
  expect(readdirSync(paths.directory)).toEqual(['vmm.log']);
  plant();
  await directory.cleanUp?.(context, vm);
  expect(existsSync(paths.directory)).toBe(false);
  expect(readdirSync(kept)).toEqual(['file']);
});
