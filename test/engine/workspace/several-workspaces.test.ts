import { join } from 'node:path';
import { readFileSync, rmSync } from 'node:fs';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import type { Guest } from '../../../src/engine/guest.ts';
import { viewWorkspaces } from '../../../src/engine/workspace/list-workspaces.ts';
import { prepareWorkspace } from '../../../src/engine/workspace/prepare-workspace.ts';
import { listWorkspaces } from '../../../src/state/workspaces.ts';
import { createRepo, openRepo, type GitRepo } from '../../support/git-repo.ts';
import { createFixture, vmId, type Fixture } from './workspace-fixture.ts';

// Many runs of git each.
vi.setConfig({ testTimeout: 120_000, hookTimeout: 60_000 });

let fixture: Fixture;
let other: GitRepo;
beforeEach(() => {
  fixture = createFixture();
  other = createRepo(join(fixture.directory, 'other'));
  for (const repo of [fixture.repo, other]) {
    repo.write('file', `${repo.path}\n`);
    repo.commit('first');
  }
});
afterEach(() => fixture.remove());

const otherPath = (): string => join(fixture.directory, 'guest', 'other');
const sendOther = () => fixture.prepare({ path: other.path, guestPath: otherPath() });

/** Prepares in a context that notes how many programs that unpack run at once. */
async function prepareTogether(
  params: readonly Partial<Parameters<Fixture['prepare']>[0]>[],
): Promise<number> {
  const { context, operation, ensureVm, repo, guestPath } = fixture;
  let running = 0;
  let most = 0;
  const guest = async (...args: Parameters<typeof context.guest>): Promise<Guest> => {
    const real = await context.guest(...args);
    return {
      ...real,
      runToolbox: async (argv, options) => {
        if (options?.input === undefined) return real.runToolbox(argv, options);
        most = Math.max(most, ++running);
        try {
          // Another one would begin in this time.
          await new Promise((resolve) => setTimeout(resolve, 50));
          return await real.runToolbox(argv, options);
        } finally {
          running--;
        }
      },
    };
  };
  const base = {
    path: repo.path,
    guestPath,
    includeUntracked: false,
    include: [],
    overwrite: false,
    fullHistory: false,
    readonly: false,
  };
  await Promise.all(
    params.map((each) => prepareWorkspace({ ...context, guest }, { ...base, ...each }, operation, ensureVm)),
  );
  return most;
}

test('two trees that are sent to one VM at once are sent one after the other, and both arrive', async () => {
  expect(await prepareTogether([{}, { path: other.path, guestPath: otherPath() }])).toBe(1);
  for (const [copy, repo] of [
    [fixture.copy, fixture.repo],
    [openRepo(otherPath()), other],
  ] as const) {
    expect(readFileSync(join(copy.path, 'file'), 'utf8')).toBe(`${repo.path}\n`);
    expect(copy.git('status', '--porcelain')).toBe('');
  }
  expect(listWorkspaces(fixture.context.db, vmId)).toHaveLength(2);
});

test('a tree that is sent twice at once is there once, whole', async () => {
  expect(await prepareTogether([{}, {}])).toBe(1);
  expect(fixture.copy.git('status', '--porcelain=v2')).toBe(fixture.repo.git('status', '--porcelain=v2'));
  fixture.copy.git('fsck', '--strict');
  expect(listWorkspaces(fixture.context.db, vmId)).toHaveLength(1);
});

test('each of several trees of a VM is exported, and sent again, by itself', async () => {
  await fixture.prepare();
  await sendOther();
  const copy = openRepo(otherPath());
  copy.write('file', 'changed there\n');
  fixture.copy.write('mine', 'new\n');
  expect((await fixture.export({ path: other.path })).files.map(({ path }) => path)).toEqual(['file']);
  expect((await fixture.export()).files.map(({ path }) => path)).toEqual(['mine']);
  other.write('second', 'more\n');
  other.commit('second');
  expect(await sendOther()).toMatchObject({ files: 1, update: { kept: ['file'] } });
  expect(readFileSync(join(fixture.copy.path, 'mine'), 'utf8')).toBe('new\n');
});

test('a tree does not take the place of another one', async () => {
  await fixture.prepare();
  fixture.copy.write('mine', 'new\n');
  await expect(fixture.prepare({ path: other.path })).rejects.toMatchObject({ code: 'already_exists' });
  expect(readFileSync(join(fixture.copy.path, 'mine'), 'utf8')).toBe('new\n');
});

test('a tree is not sent into another one, nor around one, unless that is gone', async () => {
  await fixture.prepare();
  const inner = join(fixture.guestPath, 'inner');
  const sendInto = (guestPath: string, overwrite = false) =>
    fixture.prepare({ path: other.path, guestPath, overwrite });
  await expect(sendInto(inner)).rejects.toMatchObject({
    code: 'invalid_argument',
    message: `"${inner}" in VM "web" is in the workspace "${fixture.guestPath}"`,
    hint: `Choose a place of its own: banger workspace prepare ${other.path} --vm web --guest-path /root/other-2`,
  });
  const outer = join(fixture.directory, 'guest');
  await expect(sendInto(outer, true)).rejects.toMatchObject({
    message: `"${outer}" in VM "web" has the workspace "${fixture.guestPath}" in it`,
  });
  // Names that begin alike are none of it.
  await sendInto(`${fixture.guestPath}-2`);
  expect(fixture.copy.git('status', '--porcelain')).toBe('');

  rmSync(fixture.guestPath, { recursive: true });
  await sendInto(inner);
  expect(openRepo(inner).git('status', '--porcelain')).toBe('');
});

test('one tree in two places of a VM is answered for the place that is named, and not without a name', async () => {
  const { context, repo, copy } = fixture;
  await fixture.prepare();
  copy.write('file', 'changed in the first\n');
  const second = join(fixture.directory, 'guest', 'second');
  await fixture.prepare({ guestPath: second });
  const places = `"${repo.path}" in "${second}", "${repo.path}" in "${fixture.guestPath}"`;
  const asked = { path: join(repo.path) };
  for (const [command, ask] of [
    ['export', () => fixture.export(asked)],
    ['apply', () => fixture.apply(asked)],
    ['remote', () => viewWorkspaces(context.db, asked)],
  ] as const)
    await expect(ask()).rejects.toMatchObject({
      code: 'invalid_argument',
      message: `VM "web" has that tree in several places: ${places}`,
      hint: `Name one: banger workspace ${command} ${repo.path} --vm web --guest-path ${second}`,
    });
  await expect(fixture.export({ vm: 'web' })).rejects.toThrow(`has several workspaces: ${places}`);

  expect((await fixture.export({ ...asked, guestPath: second })).files).toEqual([]);
  expect((await fixture.export({ vm: 'web', guestPath: `${fixture.guestPath}/` })).files).toHaveLength(1);
  expect(await viewWorkspaces(context.db, { ...asked, guestPath: second })).toMatchObject([
    { guestPath: second },
  ]);
  expect(await viewWorkspaces(context.db, { vm: 'web' })).toHaveLength(2);
  await expect(fixture.apply({ ...asked, guestPath: '/srv/none' })).rejects.toMatchObject({
    code: 'not_found',
    message: `VM "web" has no workspace of "${repo.path}" in "/srv/none", but ${places}`,
  });
  await fixture.apply({ guestPath: fixture.guestPath });
  expect(readFileSync(join(repo.path, 'file'), 'utf8')).toBe('changed in the first\n');
});
