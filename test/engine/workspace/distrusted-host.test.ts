import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { EventBus } from '../../../src/engine/events.ts';
import { fetchIntoMirror } from '../../../src/engine/workspace/guest-tree/fetch-mirror.ts';
import type { GuestWorkspace } from '../../../src/engine/workspace/guest-tree/guest-changes.ts';
import { watchWorkspace } from '../../../src/engine/workspace/watch-workspace.ts';
import { listWorkspaces } from '../../../src/state/workspaces.ts';
import { createFakeGuest } from '../../support/fake-guest.ts';
import { wholeTree } from '../../support/git-repo.ts';
import { createFixture, hermeticExec, vmId, type Fixture } from './workspace-fixture.ts';

/** Many runs of git, each a process. */
vi.setConfig({ testTimeout: 120_000 });

let fixture: Fixture;
beforeEach(() => {
  fixture = createFixture();
  fixture.repo.write('file', 'one\n');
  fixture.repo.commit('first');
});
afterEach(() => fixture.remove());

/** The engine on a host whose git takes the user's repository, though not what the engine makes, for somebody else's. */
function distrustful(): Fixture['context'] {
  const { context } = fixture;
  const { scratchDirectory } = context.layout;
  const exec: typeof hermeticExec = (argv, options = {}) => {
    const isOwn = argv.some((word) => word.startsWith(scratchDirectory));
    const env = isOwn ? options.env : { ...options.env, GIT_TEST_ASSUME_DIFFERENT_OWNER: '1' };
    return hermeticExec(argv, { ...options, env });
  };
  return { ...context, exec };
}

test('A40: a repository that git does not trust any more is not written to, and gives nothing to what is fetched', async () => {
  const { repo, copy } = fixture;
  await fixture.prepare();
  copy.write('file', 'of the guest\n');
  const before = wholeTree(repo.path);
  const refusal = {
    message: expect.stringContaining(`detected dubious ownership in repository at '${repo.path}`) as string,
    hint: expect.stringContaining('safe.directory') as string,
  };
  await expect(fixture.apply({ context: distrustful() })).rejects.toMatchObject(refusal);
  expect(wholeTree(repo.path)).toBe(before);
  const workspace: GuestWorkspace = {
    guest: createFakeGuest().guest,
    ensureGit: async () => 'git',
    guestPath: fixture.guestPath,
    baseTree: repo.git('rev-parse', 'HEAD^{tree}').trim(),
    vmName: 'web',
    signal: fixture.operation.signal,
  };
  const { db, layout } = fixture.context;
  const mirror = join(layout.scratchDirectory, 'mirror.git');
  const input = { workspace, sent: listWorkspaces(db, vmId)[0]!, mirror };
  mkdirSync(layout.scratchDirectory, { recursive: true });
  // What is fetched has all of its objects from the guest, and none from there.
  await fetchIntoMirror(distrustful(), input, fixture.operation);
  expect(existsSync(join(mirror, 'objects/info/alternates'))).toBe(false);
  expect(wholeTree(repo.path)).toBe(before);
  rmSync(mirror, { recursive: true });
  await fetchIntoMirror(fixture.context, input, fixture.operation);
  expect(existsSync(join(mirror, 'objects/info/alternates'))).toBe(true);
});

/** A repository whose settings and hooks run this, which leaves a trace. */
function setTraps(): () => boolean {
  const { repo, directory } = fixture;
  const trap = join(directory, 'trap.sh');
  const ran = join(directory, 'ran');
  writeFileSync(trap, `#!/bin/sh\necho "$0 $*" >>'${ran}'\ncat\n`, { mode: 0o755 });
  repo.write('.gitattributes', '*.bin filter=evil diff=evil\n');
  repo.write('a.bin', 'raw\n');
  repo.commit('traps');
  for (const name of ['core.fsmonitor', 'core.sshCommand', 'diff.evil.command', 'diff.external'])
    repo.git('config', name, trap);
  for (const kind of ['clean', 'smudge', 'process']) repo.git('config', `filter.evil.${kind}`, trap);
  for (const hook of ['post-index-change', 'pre-commit', 'reference-transaction', 'fsmonitor-watchman'])
    repo.write(`.git/hooks/${hook}`, `#!/bin/sh\necho "$0" >>'${ran}'\n`, 0o755);
  repo.write('a.bin', 'changed\n');
  return () => existsSync(ran);
}

test('A40: looking at what would be sent runs nothing of the repository', async () => {
  const hasRun = setTraps();
  const { files } = await fixture.plan({ includeUntracked: true });
  expect(files.map(({ path }) => path).toSorted()).toEqual(['.gitattributes', 'a.bin', 'file']);
  expect(hasRun()).toBe(false);
  // The traps are true ones.
  fixture.repo.git('status');
  expect(hasRun()).toBe(true);
});

test('A40: nor does watching it', async () => {
  const hasRun = setTraps();
  const { repo, context } = fixture;
  const events = new EventBus((error) => {
    throw error;
  });
  const abort = new AbortController();
  const lines: string[] = [];
  const there = (name: string): string | undefined => {
    const path = join(fixture.guestPath, name);
    return existsSync(path) ? readFileSync(path, 'utf8') : undefined;
  };
  const watching = watchWorkspace(
    { ...context, events },
    {
      path: repo.path,
      guestPath: fixture.guestPath,
      includeUntracked: true,
      include: [],
      overwrite: false,
    },
    {
      operation: { ...fixture.operation, signal: abort.signal },
      stream: {
        send: async (_, content) => {
          lines.push(content!.toString());
          if (lines.length === 1) {
            writeFileSync(join(repo.path, 'a.bin'), 'changed again\n');
            writeFileSync(join(repo.path, 'new.bin'), 'new\n');
          }
          if (there('a.bin') === 'changed again\n' && there('new.bin') === 'new\n') abort.abort();
        },
      },
      ensureVm: fixture.ensureVm,
    },
  );
  await expect(watching).rejects.toMatchObject({ code: 'cancelled' });
  expect(lines.length).toBeGreaterThan(1);
  expect(lines.every((line) => (JSON.parse(line) as { kind: string }).kind === 'sent')).toBe(true);
  expect(hasRun()).toBe(false);
});
