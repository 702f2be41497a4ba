import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import type { Operation } from '../../../src/engine/operations.ts';
import { fetchBlobs } from '../../../src/engine/workspace/guest-tree/fetch-blobs.ts';
import { fetchIntoMirror } from '../../../src/engine/workspace/guest-tree/fetch-mirror.ts';
import type { GuestWorkspace } from '../../../src/engine/workspace/guest-tree/guest-changes.ts';
import { inspectTree } from '../../../src/engine/workspace/host-tree/inspect-tree.ts';
import { scratchObjects } from '../../../src/engine/workspace/host-tree/scratch-objects.ts';
import { listWorkspaces } from '../../../src/state/workspaces.ts';
import { packBomb } from '../../support/bombs.ts';
import { createFakeGuest } from '../../support/fake-guest.ts';
import { wholeTree } from '../../support/git-repo.ts';
import { createFixture, vmId, type Fixture } from './workspace-fixture.ts';

/** Many runs of git, each a process. */
vi.setConfig({ testTimeout: 120_000 });

const most = 3_000_000;
let fixture: Fixture;
let received: number;
beforeEach(async () => {
  fixture = createFixture();
  received = 0;
  fixture.repo.write('file', 'one\n');
  fixture.repo.commit('first');
  await fixture.prepare();
  fixture.copy.write('file', 'of the guest\n');
});
afterEach(() => fixture.remove());

const operation = (): Operation => ({
  ...fixture.operation,
  progress: ({ done }) => {
    received = Math.max(received, done ?? 0);
  },
});

/** A guest whose git does this for one of its commands. */
function workspaceThat(command: string, script: string): GuestWorkspace {
  const programs = mkdtempSync(join(fixture.directory, 'programs-'));
  const git = execFileSync('sh', ['-c', 'command -v git'], { encoding: 'utf8' }).trim();
  const text = `#!/bin/sh\nreal=${git}\ncase " $* " in *" ${command} "*) ${script};; esac\nexec $real "$@"\n`;
  writeFileSync(join(programs, 'git'), text, { mode: 0o755 });
  return {
    guest: createFakeGuest({ env: { PATH: `${programs}:${process.env['PATH']}` } }).guest,
    ensureGit: async () => 'git',
    guestPath: fixture.guestPath,
    baseTree: fixture.repo.git('rev-parse', 'HEAD^{tree}').trim(),
    vmName: 'web',
    signal: fixture.operation.signal,
  };
}

async function openTarget() {
  const scratch = mkdtempSync(join(fixture.directory, 'scratch-'));
  const { repository } = await inspectTree(fixture.context.exec, {
    path: fixture.repo.path,
    scratch,
    includeUntracked: true,
    signal: fixture.operation.signal,
  });
  return { repository, scratch, env: await scratchObjects(repository, scratch) };
}

test('A24: files of a guest whose pack has no end are cut off, and nothing of the host changes', async () => {
  const { repo } = fixture;
  const before = wholeTree(repo.path);
  const { repository, env, scratch } = await openTarget();
  const target = { repository, env, scratch, maxPackBytes: most };
  const oid = fixture.copy.git('hash-object', '-w', 'file').trim();
  await expect(
    fetchBlobs(workspaceThat('pack-objects', 'exec yes'), [oid], target, operation()),
  ).rejects.toMatchObject({
    message: 'The changes in VM "web" have more than 2.9 MiB, compressed',
    hint: expect.stringContaining('.gitignore') as string,
  });
  expect(received).toBeLessThanOrEqual(most);
  expect(wholeTree(repo.path)).toBe(before);
  // What fits is taken.
  await fetchBlobs(workspaceThat('nothing', 'exit 1'), [oid], target, operation());
  expect((await repository.git(['cat-file', 'blob', oid], { env })).stdout.toString()).toBe('of the guest\n');
  expect(wholeTree(repo.path)).toBe(before);
});

test('A24: so is a fetch from one that lists references without end, or has too much', async () => {
  const { repo, context } = fixture;
  const before = wholeTree(repo.path);
  const scratch = mkdtempSync(join(fixture.directory, 'scratch-'));
  const sent = listWorkspaces(context.db, vmId)[0]!;
  const fetchFrom = (workspace: GuestWorkspace, name: string) =>
    fetchIntoMirror(
      context,
      { workspace, sent, mirror: join(scratch, name), maxFetchBytes: most },
      operation(),
    );
  const tooMuch = {
    message: 'VM "web" has more than 2.9 MiB that is not here, compressed',
    hint: expect.stringContaining('banger workspace export') as string,
  };
  // References without end, each as git expects it.
  const oid = fixture.copy.git('rev-parse', 'HEAD').trim();
  const endless = `exec perl -e 'for ($n = 0; ; $n++) { $l = "${oid} refs/tags/$n\\n"; printf "%04x%s", length($l) + 4, $l }'`;
  await expect(fetchFrom(workspaceThat('upload-pack', endless), 'a.git')).rejects.toMatchObject(tooMuch);
  expect(wholeTree(repo.path)).toBe(before);
  // A pack that is only too large.
  writeFileSync(join(fixture.guestPath, 'huge'), randomBytes(6_000_000));
  await expect(fetchFrom(workspaceThat('nothing', 'exit 1'), 'b.git')).rejects.toMatchObject(tooMuch);
  expect(received).toBeLessThan(most + 1_000_000);
  expect(wholeTree(repo.path)).toBe(before);
  rmSync(join(fixture.guestPath, 'huge'));
  await fetchFrom(workspaceThat('nothing', 'exit 1'), 'c.git');
  expect(readdirSync(scratch)).toContain('c.git');
  expect(wholeTree(repo.path)).toBe(before);
});

test('A24: a pack of a few kilobytes that unpacks to many gigabytes does not take the memory of the host', async () => {
  const { repo, context } = fixture;
  const before = wholeTree(repo.path);
  const pack = join(fixture.directory, 'bomb.pack');
  writeFileSync(pack, packBomb(4096));
  const oid = fixture.copy.git('hash-object', '-w', 'file').trim();
  const target = await openTarget();
  await expect(
    fetchBlobs(workspaceThat('pack-objects', `exec cat ${pack}`), [oid], target, operation()),
  ).rejects.toMatchObject({
    message: 'The changes in VM "web" take more than 1.5 GiB of memory to unpack; nothing was applied',
    hint: expect.stringContaining('banger vm exec web -- git') as string,
  });
  const hook = join(fixture.directory, 'hook');
  writeFileSync(hook, `#!/bin/sh\ncat >/dev/null\nexec cat ${pack}\n`, { mode: 0o755 });
  const server = workspaceThat('upload-pack', `exec $real -c uploadpack.packObjectsHook=${hook} "$@"`);
  const sent = listWorkspaces(context.db, vmId)[0]!;
  const mirror = join(target.scratch, 'mirror.git');
  await expect(
    fetchIntoMirror(context, { workspace: server, sent, mirror }, operation()),
  ).rejects.toMatchObject({
    message: 'What VM "web" has that is not here takes more than 1.5 GiB of memory to unpack',
    hint: expect.stringContaining('banger workspace export') as string,
  });
  expect(wholeTree(repo.path)).toBe(before);
});
