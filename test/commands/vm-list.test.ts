import { afterEach, beforeEach, expect, test } from 'vitest';
import type { Cli } from '../../src/commands/cli.ts';
import type { VmView } from '../../src/engine/rpc/vm-methods.ts';
import { viewVm } from '../../src/engine/vm-view.ts';
import { vmText } from '../../src/commands/vm-text.ts';
import { fakeEngine, type FakeEngine } from '../support/fake-engine.ts';
import { runProgram } from '../support/run-program.ts';
import { createTestVm } from '../support/vm-world.ts';

let engine: FakeEngine;
beforeEach(() => {
  engine = fakeEngine();
});
afterEach(() => engine.close());

/** What `ps` prints of VMs: as text, and under `--json`; and says besides. */
async function ps(
  vms: readonly VmView[],
  printsToTerminal = true,
): Promise<{ readonly text: string; readonly value: unknown; readonly said: readonly string[] }> {
  const printed: { text: string; value: unknown }[] = [];
  const said: string[] = [];
  const cli = {
    call: async () => vms,
    printsToTerminal,
    say: (line: string) => void said.push(line),
    print: (value: unknown, text: (value: unknown) => string) =>
      void printed.push({ text: text(value), value }),
  } as unknown as Cli;
  await runProgram(cli, ['ps']);
  return { ...printed[0]!, said };
}

test('ps says what runs VMs, and why: below the table for people, with --json for others; so does vm show', async () => {
  const view = viewVm(engine.context, await createTestVm(engine));
  const { text, value, said } = await ps([view, view]);
  expect(said).toEqual(['qemu (tcg): for tests']);
  expect((await ps([view], false)).said).toEqual([]);
  const [headings, row] = text.split('\n').map((line) => line.split(/ {2,}/));
  expect(row![headings!.indexOf('VMM')]).toBe('qemu (tcg)');
  const why = { vmm: 'qemu (tcg)', vmmReason: 'for tests' };
  expect(value).toMatchObject([why, why]);
  expect(vmText(view)).toMatch(/^VMM: +qemu \(tcg\), for tests$/m);
});

test('of a VM that does not run there is no VMM, nor a reason for one', async () => {
  const view = viewVm(engine.context, await createTestVm(engine, { start: false }));
  const { text, value, said } = await ps([view]);
  expect(said).toEqual([]);
  expect(text).not.toContain('qemu');
  expect(value).toMatchObject([{ vmm: undefined, vmmReason: undefined }]);
  expect(vmText(view)).not.toContain('VMM:');
});
