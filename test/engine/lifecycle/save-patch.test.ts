import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { savePatch } from '../../../src/engine/lifecycle/save-patch.ts';
import { killVm } from '../../../src/engine/lifecycle/kill-vm.ts';
import { changeVm, getVm, insertVm, moveVm, type Vm } from '../../../src/state/vms.ts';
import { saveWorkspace } from '../../../src/state/workspaces.ts';
import { fakeEngine, type FakeEngine } from '../../support/fake-engine.ts';
import { createRepo } from '../../support/git-repo.ts';
import { fakeOperation } from '../../support/fakes.ts';
import { createTestVm } from '../../support/vm-world.ts';
import { createFixture, vmId, type Fixture } from '../workspace/workspace-fixture.ts';

let engine: FakeEngine;
let vm: Vm;

beforeEach(async () => {
  engine = fakeEngine();
  vm = await createTestVm(engine, { ephemeral: true });
});
afterEach(() => engine.close());

/** Saves what changed in a working tree's copy. */
async function saveOf({ context, operation }: Fixture): ReturnType<typeof savePatch> {
  const handles = { get: () => ({}) } as unknown as typeof engine.context.handles;
  return savePatch({ ...engine.context, ...context, handles }, getVm(context.db, vmId), operation);
}

const save = () => savePatch(engine.context, vm, fakeOperation().operation);

test('a VM without a working tree has nothing to save', async () => {
  expect(await save()).toBeUndefined();
});

test('a VM with a working tree that has stopped is not taken to have no changes', async () => {
  const preparedAt = new Date().toISOString();
  saveWorkspace(engine.context.db, {
    vmId: vm.id,
    hostPath: '/tree',
    guestPath: '/root/tree',
    baseTree: 'f'.repeat(40),
    preparedAt,
  });
  await killVm(engine.context, vm.id, fakeOperation().operation);
  await expect(save()).rejects.toThrow('not running any more');
});

test('the changes of a VM are its own, also when it was renamed and another has its name', async () => {
  const fixture = createFixture();
  try {
    const { db } = fixture.context;
    writeFileSync(join(fixture.repo.path, 'file'), 'as sent\n');
    fixture.repo.commit('one');
    await fixture.prepare();
    writeFileSync(join(fixture.guestPath, 'file'), 'changed by the run\n');
    const before = getVm(db, vmId);
    changeVm(db, vmId, { name: 'mine' });
    const other = 'b'.repeat(32);
    insertVm(db, { ...before, id: other, controlSocket: '/run/other.sock' });
    moveVm(db, other, 'stopped');
    const context = {
      ...engine.context,
      ...fixture.context,
      handles: { get: () => ({}) } as unknown as typeof engine.context.handles,
    };
    const patch = await savePatch(context, before, fixture.operation);
    expect(patch).toMatchObject({ files: 1 });
    expect(patch!.path).toMatch(/\/mine-[^/]*\.patch$/);
    expect(readFileSync(patch!.path, 'utf8')).toContain('+changed by the run');
  } finally {
    fixture.remove();
  }
});

test('a tree that nobody has touched is known at one look, without git; what is only in its repository is still seen', async () => {
  const fixture = createFixture();
  const { repo, copy, commands } = fixture;
  try {
    repo.write('file', 'as sent\n');
    repo.commit('one');
    repo.write('file', 'not committed\n');
    await fixture.prepare();
    const before = commands.length;
    expect(await saveOf(fixture)).toBeUndefined();
    const asked = commands.slice(before).map((argv) => argv.join(' '));
    expect(asked).toEqual([expect.stringContaining('/look')]);

    copy.git('stash', '-q');
    copy.git('stash', 'apply', '-q');
    await expect(saveOf(fixture)).rejects.toThrow('are in no patch: "stash"');
  } finally {
    fixture.remove();
  }
}, 120_000);

test('each tree of a VM is looked at: one that was sent later does not hide what changed in another', async () => {
  const fixture = createFixture();
  const { repo, copy, directory } = fixture;
  try {
    repo.write('file', 'as sent\n');
    repo.commit('one');
    await fixture.prepare();
    copy.write('file', 'changed by the run\n');
    const second = join(directory, 'guest/second');
    await fixture.prepare({ guestPath: second });
    const patch = await saveOf(fixture);
    expect(readFileSync(patch!.path, 'utf8')).toContain('+changed by the run');

    writeFileSync(join(second, 'file'), 'changed there, too\n');
    const failed: unknown = await saveOf(fixture).catch((error: unknown) => error);
    const [, paths] = /^several of its trees have changes; the patches of them are (.*)$/.exec(
      (failed as Error).message,
    )!;
    const saved = paths!.split(', ').map((path) => readFileSync(path, 'utf8'));
    expect(saved.join('')).toMatch(/\+changed there, too[^]*\+changed by the run/);
  } finally {
    fixture.remove();
  }
}, 120_000);

test('work that a patch of the tree leaves out is refused: other branches, stashes, repositories inside', async () => {
  const fixture = createFixture();
  const { repo, copy, directory } = fixture;
  try {
    const lib = createRepo(join(directory, 'lib'));
    lib.write('a', 'a\n');
    lib.commit('lib');
    repo.write('file', 'as sent\n');
    repo.git('-c', 'protocol.file.allow=always', 'submodule', '--quiet', 'add', lib.path, 'vendor');
    repo.commit('one');
    await fixture.prepare();
    expect(await saveOf(fixture)).toBeUndefined();

    // What is on the branch that is checked out is in the patch; a branch without commits of its own has none.
    copy.git('branch', 'empty');
    copy.write('file', 'committed\n');
    copy.git('commit', '-qam', 'in the patch');
    expect(await saveOf(fixture)).toMatchObject({ files: 1 });

    copy.git('switch', '-q', '-c', 'fix');
    copy.write('file', 'of the branch\n');
    copy.git('commit', '-qam', 'in no patch');
    copy.git('switch', '-q', 'main');
    await expect(saveOf(fixture)).rejects.toMatchObject({
      message: expect.stringMatching(/are in no patch: "fix"$/) as string,
      hint: expect.stringMatching(/^Get them with: git fetch banger::web/) as string,
    });
    copy.git('branch', '-q', '-D', 'fix');

    copy.write('file', 'stashed\n');
    copy.git('stash', '-q');
    await expect(saveOf(fixture)).rejects.toMatchObject({
      message: expect.stringMatching(/are in no patch: "stash"$/) as string,
      hint: expect.stringContaining('branch stashed stash; git fetch') as string,
    });
    copy.git('stash', 'drop', '-q');

    copy.write('vendor/a', 'changed\n');
    await expect(saveOf(fixture)).rejects.toThrow('inside the tree is in no patch: "vendor"');
    copy.git('-C', 'vendor', 'stash', '-q');
    await expect(saveOf(fixture)).rejects.toThrow('are in no patch: "vendor/stash"');
  } finally {
    fixture.remove();
  }
}, 240_000);
