import { readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { imagePull } from '../../src/engine/rpc/image-methods.ts';
import { vmKill, vmPause, vmResume, vmSet } from '../../src/engine/rpc/vm-control-methods.ts';
import type { Method, ParamsOf, ResultOf } from '../../src/engine/rpc/method.ts';
import { vmCreate, vmDelete, vmRestart, vmShow, vmStart, vmStop } from '../../src/engine/rpc/vm-methods.ts';
import { workspacePrepare } from '../../src/engine/rpc/workspace-methods.ts';
import { checkPort, findFreePort } from '../../src/host/ports.ts';
import { openCrashLab, type CrashLab } from '../support/crash-lab.ts';
import { crashEverywhere, matrixTable, type MatrixRow, type Scenario } from '../support/crash-matrix.ts';
import { createRepo, type GitRepo } from '../support/git-repo.ts';
import { HostWorld } from '../support/host-world.ts';
import { settingRunning, settingStopped } from '../support/set-scenarios.ts';
import { putImage, startRegistry, type FakeRegistry } from '../support/registry.ts';
import { file, tarOf } from '../support/tar-builder.ts';

/** Two at a time, each with an engine of its own: boots under emulation take a core each. */
const lanes = [0, 1].map(() => openCrashLab());
const rows: MatrixRow[] = [];
let registry: FakeRegistry;

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
    for await (const row of crashEverywhere(lab, world, scenario)) {
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
    pulling(lab, world),
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
  ];
}

function setting(lab: CrashLab): Scenario {
  const { call } = lab;
  let count = 0;
  let before: ResultOf<typeof vmShow>;
  let hostPort: number;
  const wanted = () => ({
    vm: 'web',
    diskBytes: before.diskBytes + 1024 ** 2,
    labels: { count: String(count) },
    publish: [{ hostPort, guestPort: 80 }],
  });
  return {
    name: 'vm set, disk and ports',
    ready: async () => {
      if ((await call(vmShow, { vm: 'web' })).state === 'paused') await call(vmResume, { vm: 'web' });
      await call(vmStart, { vm: 'web' });
      const { ports } = await call(vmShow, { vm: 'web' });
      await call(vmSet, { vm: 'web', unpublish: ports.map(({ hostPort: port }) => ({ hostPort: port })) });
      before = await call(vmShow, { vm: 'web' });
      hostPort = await findFreePort();
      count++;
    },
    act: (arm) => acting(lab, vmSet, wanted())(arm),
    /** What the row says is what the host does */
    outcome: async () => {
      const { labels, ports } = await call(vmShow, { vm: 'web' });
      const isSet = labels['count'] === String(count);
      expect(ports.map((port) => port.hostPort)).toEqual(isSet ? [hostPort] : []);
      const isListening = await checkPort({ protocol: 'tcp', bind: '127.0.0.1', port: hostPort }).then(
        () => false,
        () => true,
      );
      expect(isListening).toBe(isSet);
      expect(await call(vmSet, wanted())).toMatchObject({ atNextStart: [], diskBytes: wanted().diskBytes });
      return isSet ? 'all of it is set' : 'nothing is set';
    },
  };
}

function pulling(lab: CrashLab, world: HostWorld): Scenario {
  let count = 0;
  const name = (): string => `${registry.host}/test:v${count}`;
  return {
    name: 'image pull',
    // Another image each time: one that is here already would not be fetched.
    ready: async () => {
      count++;
      const layer = tarOf([file('etc/version', `${count}`), file('blob', 'x'.repeat(300_000))]);
      putImage(registry, 'test', { tag: `v${count}`, layers: [layer.toString('latin1')] });
    },
    act: (arm) => acting(lab, imagePull, { reference: name() })(arm),
    outcome: async () => {
      const was = world.imageNames().includes(name()) ? 'the image is there' : 'there is no image';
      const kept = world.partialBlobs().length > 0 ? ', a part of its download is kept' : '';
      await lab.call(imagePull, { reference: name() });
      expect(world.partialBlobs()).toEqual([]);
      return `${was}${kept}`;
    },
  };
}

/** Whatever is there is one state of the tree, all of it, and the next `prepare` makes it what it is on the host. */
function preparing(lab: CrashLab, world: HostWorld): Scenario[] {
  const path = join(lab.banger.home, 'tree');
  const prepare = { path, vm: 'web' };
  let repo: GitRepo | undefined;
  let count = 0;
  let before: Record<string, string>;
  /** A file that changes, one that comes and one that goes, a commit, and something staged */
  const makeNext = (): void => {
    repo ??= createRepo(path);
    rmSync(join(path, wordOf(count)), { recursive: true, force: true });
    count++;
    repo.write('file', `version ${count}\n`);
    repo.write(`${wordOf(count)}/deep/file`, 'x\n');
    repo.commit(`version ${count}`);
    repo.write('staged', `version ${count}\n`);
    repo.git('add', 'staged');
    before = repo.snapshot();
  };
  const look = async (): Promise<string> => (await lab.banger.guest('web', lookScript)).trim();
  const wanted = (): string =>
    [`version ${count}`, `version ${count}`, wordOf(count), repo!.git('rev-parse', 'HEAD').trim()].join(' ');
  const ready = async (): Promise<void> => {
    if (world.state('web') === 'paused') await lab.call(vmResume, { vm: 'web' });
    await lab.call(vmStart, { vm: 'web' });
  };
  let old = '';
  const outcome = async (): Promise<string> => {
    expect(repo!.snapshot()).toEqual(before);
    const found = await look();
    expect([old, wanted()]).toContain(found);
    await lab.call(workspacePrepare, prepare);
    expect(await look()).toBe(wanted());
    expect(repo!.snapshot()).toEqual(before);
    if (found === wanted()) return 'the new tree is there';
    return found === '' ? 'there is no tree' : 'the old tree is there';
  };
  return [
    {
      name: 'workspace prepare',
      ready: async () => {
        await ready();
        await lab.banger.guest('web', 'rm -rf /root/tree');
        makeNext();
        old = '';
      },
      act: acting(lab, workspacePrepare, prepare),
      outcome,
    },
    {
      name: 'workspace prepare, again',
      ready: async () => {
        await ready();
        await lab.call(workspacePrepare, prepare);
        old = wanted();
        makeNext();
      },
      act: acting(lab, workspacePrepare, prepare),
      outcome,
    },
  ];
}

/** A directory of its own for every other version. */
function wordOf(count: number): string {
  return count % 2 === 0 ? 'even' : 'odd';
}

const lookScript = `
cd /root/tree 2>/dev/null || exit 0
head=$(cat .git/refs/heads/main 2>/dev/null || sed -n 's,^\\([0-9a-f]*\\) refs/heads/main$,\\1,p' .git/packed-refs)
echo $(cat file staged) $(ls | grep -e even -e odd) $head
`;

/** What a program changed is in a patch on the host, or still in its VM: never nowhere. */
function running(lab: CrashLab, world: HostWorld): Scenario {
  const path = join(lab.banger.home, 'job-tree');
  const patches = (): number => namesIn(lab.layout.patchesDirectory).length;
  let repo: GitRepo | undefined;
  let patchesBefore = 0;
  return {
    name: 'vm run',
    ready: async () => {
      if (world.state('job') !== undefined) await lab.call(vmDelete, { vm: 'job' });
      if (!repo) {
        repo = createRepo(path);
        repo.write('file', 'sent\n');
        repo.write('banger.toml', 'setup = ["true"]\n');
        repo.commit('one');
      }
      patchesBefore = patches();
    },
    act: (arm) => {
      arm();
      const change = ['sh', '-c', 'echo changed > file'];
      return lab.banger.run(['vm', 'run', path, '--trust', '--rm', '--name', 'job', '--', ...change]);
    },
    provoked: { failpoints: '', after: 'vm.run/Connecting:after' },
    outcome: async (point) => {
      const hasRun = /Looking for|deleting|Deleting|removed|ended/.test(point);
      if (patches() > patchesBefore) return 'there is a patch';
      if (world.state('job') === undefined) {
        expect(hasRun).toBe(false);
        return 'there is no VM';
      }
      const found = await lab.banger.guest('job', 'cat /root/job-tree/file');
      if (hasRun) expect(found).toBe('changed');
      return `the VM is kept, with what was ${found}`;
    },
  };
}

function namesIn(directory: string): string[] {
  try {
    return readdirSync(directory);
  } catch {
    return [];
  }
}

function acting<M extends Method>(lab: CrashLab, method: M, params: ParamsOf<M>): Scenario['act'] {
  return (arm) => {
    arm();
    return lab.call(method, params);
  };
}
