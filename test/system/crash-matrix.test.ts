import { afterAll, beforeAll, expect, test } from 'vitest';
import { vmKill, vmPause, vmResume } from '../../src/engine/rpc/vm-control-methods.ts';
import { vmCreate, vmDelete, vmRestart, vmShow, vmStart, vmStop } from '../../src/engine/rpc/vm-methods.ts';
import { openCrashLab, type CrashLab } from '../support/crash-lab.ts';
import {
  acting,
  crashEverywhere,
  matrixTable,
  type MatrixRow,
  type Scenario,
} from '../support/crash-matrix.ts';
import { HostWorld } from '../support/host-world.ts';
import { setting, settingRunning, settingStopped } from '../support/set-scenarios.ts';
import { pulling } from '../support/pull-scenario.ts';
import { startRegistry, type FakeRegistry } from '../support/registry.ts';
import { preparing, running } from '../support/tree-scenarios.ts';

/** Two at a time, each with an engine of its own: boots under emulation take a core each. */
const lanes = [0, 1].map(() => openCrashLab());
const rows: MatrixRow[] = [];
let registry: FakeRegistry;

/** A slow host has no time for all of it, where so much was before it. Another third is taken each day. */
const latestMs = 1200 * 1000;
const begunAt = Number(process.env['BANGER_TEST_BEGUN'] ?? Date.now() / 1000) * 1000;
const beforeMs = Date.now() - begunAt;
const isShort = beforeMs > latestMs && process.env['BANGER_TEST_CRASHES'] !== 'all';
const today = Math.floor(Date.now() / 86_400_000);
const isTaken = (index: number): boolean => !isShort || (index + today) % 3 === 0;

test('a crash at every point, not only at each third', ({ skip }) => {
  const took = Math.round(beforeMs / 1000);
  skip(isShort, `the tests before took ${took} s: ask for all with BANGER_TEST_CRASHES=all`);
  expect([0, 1, 2].every(isTaken)).toBe(true);
});

/** What the user had made before: a VM that runs, one that everything is done to, both with a file in them. */
beforeAll(async () => {
  registry = await startRegistry();
  await Promise.all(
    lanes.map(async (lab) => {
      for (const name of ['keeper', 'web']) {
        await lab.call(vmCreate, { name });
        await lab.banger.guest(name, `echo ${name} > /root/kept`);
      }
    }),
  );
});

afterAll(async () => {
  process.stdout.write(`\n${matrixTable(rows)}\n\n`);
  for (const lab of lanes) await lab[Symbol.asyncDispose]();
  await registry[Symbol.asyncDispose]();
});

test.concurrent.each([
  [0, lane0],
  [1, lane1],
] as const)('lane %i', { timeout: 1_500_000 }, async (index, scenarios) => {
  const lab = lanes[index]!;
  const world = new HostWorld(lab.layout, lab.banger.home);
  const keeper = await lab.call(vmShow, { vm: 'keeper' });
  const mine: MatrixRow[] = [];
  for (const scenario of scenarios(lab, world)) {
    for await (const row of crashEverywhere(lab, world, scenario, isTaken)) {
      rows.push(row);
      mine.push(row);
      process.stdout.write(`${JSON.stringify(row)}\n`);
    }
    // Whatever was done to others, nothing was done to this one.
    expect(await lab.call(vmShow, { vm: 'keeper' })).toMatchObject({
      state: 'running',
      bootId: keeper.bootId,
    });
    expect(await lab.banger.guest('keeper', 'cat /root/kept')).toBe('keeper');
  }
  expect(mine.filter((row) => row.trouble.length > 0)).toEqual([]);
});

function lane0(lab: CrashLab, world: HostWorld): Scenario[] {
  const { call } = lab;
  const noNew = async (): Promise<void> => {
    if (world.state('new') !== undefined) await call(vmDelete, { vm: 'new' });
  };
  const create = (arm: () => void): Promise<unknown> => {
    arm();
    return call(vmCreate, { name: 'new' });
  };
  /** All of it or nothing */
  const created = async (): Promise<string> => {
    if (world.state('new') === undefined) return 'there is no VM';
    expect(await lab.banger.guest('new', 'echo up')).toBe('up');
    return 'it runs';
  };
  return [
    { name: 'vm create', ready: noNew, act: create, outcome: created },
    {
      name: 'vm create, taken back',
      ready: noNew,
      act: create,
      provoked: { failpoints: 'vm.create/Connecting:after=error', after: 'vm.create/Connecting:after' },
      outcome: created,
    },
    {
      name: 'vm delete',
      ready: async () => {
        if (world.state('new') === undefined) await call(vmCreate, { name: 'new' });
        await call(vmStart, { vm: 'new' });
      },
      act: acting(lab, vmDelete, { vm: 'new' }),
      outcome: created,
    },
    {
      name: 'start of the next engine',
      ready: noNew,
      act: async (arm) => {
        lab.arm('vm.create/Connecting:after=kill');
        await call(vmCreate, { name: 'new' }).catch(() => undefined);
        arm();
        await lab.quietEngine();
      },
      outcome: created,
    },
    running(lab, world),
    settingStopped(lab, world),
  ];
}

function lane1(lab: CrashLab, world: HostWorld): Scenario[] {
  const { call } = lab;
  const isStopped = async (): Promise<void> => void (await call(vmStop, { vm: 'web' }));
  /** What was written before is still there, whatever happened since */
  const isRunning = async (): Promise<void> => {
    await call(vmStart, { vm: 'web' });
    expect(await lab.banger.guest('web', 'cat /root/kept')).toBe('web');
  };
  const isUp = async (): Promise<void> => {
    if (world.state('web') === 'stopped') await call(vmStart, { vm: 'web' });
    await call(vmResume, { vm: 'web' });
  };
  const state = async (): Promise<string> => `it is ${world.state('web')}`;
  return [
    { name: 'vm stop', ready: isRunning, act: acting(lab, vmStop, { vm: 'web' }), outcome: state },
    { name: 'vm kill', ready: isRunning, act: acting(lab, vmKill, { vm: 'web' }), outcome: state },
    { name: 'vm start', ready: isStopped, act: acting(lab, vmStart, { vm: 'web' }), outcome: state },
    {
      name: 'vm restart',
      ready: isRunning,
      act: acting(lab, vmRestart, { vm: 'web' }),
      // Its parts are those of stop and start, which come before; what is its own is between them.
      counts: (point) => /VMM ended|handles removed|Starting VM:|guest connected/.test(point),
      outcome: state,
    },
    {
      name: 'end of a stop by the next engine',
      ready: isRunning,
      act: async (arm) => {
        lab.arm('vm.stop/Flushing disks:before=kill');
        await call(vmStop, { vm: 'web' }).catch(() => undefined);
        arm();
        await lab.quietEngine();
      },
      outcome: state,
    },
    {
      name: 'vm pause',
      ready: isUp,
      act: acting(lab, vmPause, { vm: 'web' }),
      outcome: state,
    },
    {
      name: 'vm resume',
      ready: async () => {
        await isUp();
        await call(vmPause, { vm: 'web' });
      },
      act: acting(lab, vmResume, { vm: 'web' }),
      outcome: state,
    },
    setting(lab),
    ...preparing(lab, world),
    settingRunning(lab),
    // Of no VM: it is here so that both lanes take about as long.
    pulling(lab, world, registry),
  ];
}
