import { readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'vitest';
import { vmResume } from '../../src/engine/rpc/vm-control-methods.ts';
import { vmDelete, vmStart } from '../../src/engine/rpc/vm-methods.ts';
import { workspacePrepare } from '../../src/engine/rpc/workspace-methods.ts';
import type { CrashLab } from './crash-lab.ts';
import { acting, type Scenario } from './crash-matrix.ts';
import { createRepo, type GitRepo } from './git-repo.ts';
import type { HostWorld } from './host-world.ts';

/** Whatever is there is one state of the tree, all of it, and the next `prepare` makes it what it is on the host. */
export function preparing(lab: CrashLab, world: HostWorld): Scenario[] {
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
export function running(lab: CrashLab, world: HostWorld): Scenario {
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
