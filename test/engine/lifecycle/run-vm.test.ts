import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { EngineContext } from '../../../src/engine/context.ts';
import { runVm, type RunParams } from '../../../src/engine/lifecycle/run-vm.ts';
import { BangerError } from '../../../src/errors.ts';
import { listVms } from '../../../src/state/vms.ts';
import { readTemplate } from '../../../src/engine/setup/read-template.ts';
import { fakeEngine, type FakeEngine } from '../../support/fake-engine.ts';
import { createFakeGuest } from '../../support/fake-guest.ts';
import { fakeOperation } from '../../support/fakes.ts';
import { createRepo, makeTempDirectory } from '../../support/git-repo.ts';
import { guestPrograms } from '../../support/guest-programs.ts';
import { hermeticExec } from '../workspace/workspace-fixture.ts';

let engine: FakeEngine;
let directory: ReturnType<typeof makeTempDirectory>;
beforeEach(() => {
  engine = fakeEngine();
  directory = makeTempDirectory();
});
afterEach(async () => {
  await engine.close();
  directory.remove();
});

const plain: RunParams = {
  name: 'web',
  includeUntracked: false,
  include: [],
  bootstrap: false,
  keepFailed: false,
  detach: false,
  remove: false,
  env: {},
  secrets: {},
};
const stream = { send: async () => undefined, onFrame: () => undefined };

test('a way out does not lead through a VM that went with its run', async () => {
  const lost = new BangerError('guest_unreachable', 'The connection to the guest was lost', {
    hint: 'What the guest says: banger vm logs web',
  });
  const context: EngineContext = {
    ...engine.context,
    guest: async (vm, signal) => ({
      ...(await engine.context.guest(vm, signal)),
      spawn: () => Promise.reject(lost),
    }),
  };
  const params = { ...plain, argv: ['poweroff'] };
  const { operation } = fakeOperation();
  await expect(runVm(context, { ...params, remove: true }, { operation, stream })).rejects.toMatchObject({
    code: 'guest_unreachable',
    message: lost.message,
    hint: 'That VM was deleted again. To keep one, and look around in it: banger vm run --keep -- COMMAND',
  });
  expect(listVms(context.db)).toEqual([]);
  await expect(runVm(context, params, { operation, stream })).rejects.toBe(lost);
  expect(listVms(context.db)).toHaveLength(1);
});

test('an image that has nothing to run by itself is told before a VM is made of it', async () => {
  const { operation, stages } = fakeOperation();
  await expect(runVm(engine.context, { ...plain, entrypoint: true }, { operation, stream })).rejects.toThrow(
    'has neither an entrypoint nor a command',
  );
  expect(stages).not.toContain('Reserving name');
});

test('a run says what of the tree stayed behind, as prepare does', async () => {
  const repo = createRepo(join(directory.path, 'project'));
  // The guest is a directory of this host.
  repo.write('banger.toml', `guest_path = ${JSON.stringify(join(directory.path, 'guest'))}\n`);
  repo.write('.gitignore', '.env\n*.log\n');
  repo.write('file', 'one\n');
  repo.commit('one');
  repo.git('branch', 'other');
  repo.git('tag', 'v1');
  repo.git('tag', 'v2');
  repo.write('file', 'two\n');
  repo.git('stash', '-q');
  for (const name of ['.env', 'a.log', 'notes']) repo.write(name, 'x\n');

  const { guest } = createFakeGuest({ programs: guestPrograms() });
  const context: EngineContext = {
    ...engine.context,
    exec: hermeticExec,
    guest: async (vm, signal) => ({
      ...guest,
      powerOff: (await engine.context.guest(vm, signal)).powerOff,
    }),
  };
  const { sha256 } = (await readTemplate(repo.path, { hasImage: false }))!.template;
  const notes: string[] = [];
  const operation = { ...fakeOperation().operation, note: (sentence: string) => void notes.push(sentence) };
  const tree = { path: repo.path, template: { sha256, trust: true } };
  await runVm(context, { ...plain, ...tree, detach: true }, { operation, stream });
  expect(notes.filter((note) => note.includes('behind'))).toEqual([
    '1 untracked file stays behind; to send untracked files: --include-untracked',
    '2 ignored paths stay behind; to send one, such as .env: --include .env',
    '1 other branch, 2 tags and 1 stash stay behind',
  ]);
});
