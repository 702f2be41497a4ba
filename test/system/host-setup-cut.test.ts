import { mkdirSync, mkdtempSync, rmdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { BangerError } from '../../src/errors.ts';
import type { Exec } from '../../src/host/exec.ts';
import { hostStatus, setupHost, teardownHost } from '../../src/host/setup/setup-host.ts';
import { setupTroubles } from '../../src/host/setup/setup-state.ts';
import { canMakeLab, labReason, openNetworkLab, type NetworkLab } from '../support/network-lab.ts';

const user = 'nobody';

describe.skipIf(!canMakeLab)(`a setup of a host that is cut short${labReason}`, () => {
  let lab: NetworkLab;
  let root: string;
  /** How many more commands that change something are run; undefined: all */
  let left: number | undefined;

  beforeEach(() => {
    lab = openNetworkLab();
    root = mkdtempSync(join(tmpdir(), 'banger-setup-'));
    writeFileSync(join(root, 'ip_forward'), '0\n');
  });
  afterEach(() => {
    lab[Symbol.dispose]();
    rmSync(root, { recursive: true });
  });

  const isChange = (argv: readonly string[]) =>
    argv[0] === 'systemctl' || argv.includes('-batch') || (argv[0] === 'nft' && argv[1] === '-f');
  const exec: Exec = async (argv, options) => {
    // From here on it does nothing more, as who was killed.
    if (left !== undefined && isChange(argv) && left-- <= 0) throw new Error('killed');
    if (argv[0] !== 'systemctl') return lab.exec(argv, options);
    return { exitCode: 0, stdout: Buffer.alloc(0), stderr: '' };
  };
  const input = () => ({
    markers: join(root, 'markers'),
    env: {},
    exec,
    places: {
      configDirectory: join(root, 'etc'),
      unitDirectory: join(root, 'units'),
      forwarding: { file: join(root, 'ip_forward'), markers: join(root, 'markers') },
      hasSystemd: true,
      systemRoot: join(root, 'system'),
    },
  });
  const verbs = {
    setup: () => setupHost({ user, taps: 1, shared: ['lab'], dryRun: false }, input()),
    teardown: () => teardownHost({ user }, input()),
  } as const;
  const isWhole = async () => {
    const state = await hostStatus({ user }, input());
    return state ? setupTroubles(state) : ['none'];
  };
  const files = () =>
    setupHost({ user, taps: 1, shared: ['lab'], dryRun: true }, input()).then((plan) =>
      // But the mark in a directory that was not there: here it is.
      plan.files.map(({ path }) => path).filter((path) => path.includes('network-')),
    );

  /** Cuts a verb short before its first command that changes something, its second, and so on; ends when it is not. */
  async function cut(verb: keyof typeof verbs, after: (count: number) => Promise<void>): Promise<number> {
    for (let count = 0; ; count++) {
      left = count;
      const isCut = await verbs[verb]().then(
        () => false,
        (error: unknown) => {
          if (error instanceof BangerError) throw error;
          return true;
        },
      );
      left = undefined;
      await after(count);
      if (!isCut) return count;
    }
  }

  test('is made whole by setup, and taken away by teardown, whichever command it came to', async () => {
    const before = lab.snapshot();
    const count = await cut('setup', async (at) => {
      // By turns: each is the other's undoing.
      if (at % 2 === 0) {
        await verbs.setup();
        expect([at, await isWhole()]).toEqual([at, []]);
      }
      const { links, removed } = await verbs.teardown();
      expect([at, lab.snapshot(), links.length + removed.length > 0]).toEqual([at, before, true]);
    });
    // Bridges, rules, taps, and the unit's two.
    expect(count).toBe(5);
  });

  test('is made whole and taken away whichever of its files was not written', async () => {
    const before = lab.snapshot();
    for (const path of await files()) {
      // Nothing can be put in its place.
      mkdirSync(join(path, 'in the way'), { recursive: true });
      await expect(verbs.setup()).rejects.toThrow();
      rmSync(join(path, 'in the way'), { recursive: true });
      rmdirSync(path);
      await verbs.setup();
      expect([path, await isWhole()]).toEqual([path, []]);
      await verbs.teardown();
      expect([path, lab.snapshot()]).toEqual([path, before]);
      rmSync(dirname(path), { recursive: true, force: true });
    }
  });

  test('whichever command teardown came to, teardown again leaves nothing', async () => {
    const before = lab.snapshot();
    await verbs.setup();
    const count = await cut('teardown', async (at) => {
      await verbs.teardown();
      expect([at, lab.snapshot()]).toEqual([at, before]);
      await verbs.setup();
      expect([at, await isWhole()]).toEqual([at, []]);
    });
    // The unit's three, taps, rules, bridges.
    expect(count).toBe(6);
  });
});
