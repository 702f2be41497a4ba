import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { vmPaths } from '../../../src/state/layout.ts';
import { listWorkspaces } from '../../../src/state/workspaces.ts';
import { viewOf } from '../../support/git-repo.ts';
import { addRunningVm, createFixture, vmId, type Fixture } from './workspace-fixture.ts';

// Many runs of git each.
vi.setConfig({ testTimeout: 120_000 });

const otherId = 'b'.repeat(32);

let fixture: Fixture;
beforeEach(() => {
  fixture = createFixture();
  addOtherVm(fixture);
});
afterEach(() => fixture.remove());

function addOtherVm({ context: { db, layout } }: Fixture): void {
  addRunningVm(db, { id: otherId, name: 'other' });
  mkdirSync(vmPaths(layout, otherId).directory, { recursive: true });
}

/** Puts the files of a VM where its guest looks for them; the path in the guest is the same in both. */
function turnTo(name: 'web' | 'other'): void {
  const { directory } = fixture;
  const away = name === 'web' ? 'other' : 'web';
  const guest = join(directory, 'guest');
  mkdirSync(guest, { recursive: true });
  renameSync(guest, join(directory, `guest-of-${away}`));
  const own = join(directory, `guest-of-${name}`);
  mkdirSync(own, { recursive: true });
  renameSync(own, guest);
}

test('what was sent is remembered of each VM: one that got less lately gets all that it lacks, and no more', async () => {
  const { repo, copy, context } = fixture;
  const read = (path: string): string => readFileSync(join(copy.path, path), 'utf8');
  for (let index = 0; index < 5; index++) repo.write(`dir/${index}`, `${index}\n`);
  repo.write('gone', 'gone\n');
  repo.commit('first');
  expect(await fixture.prepare({ vm: 'web' })).toMatchObject({ vm: 'web', files: 6 });

  repo.write('dir/0', 'changed\n');
  rmSync(join(repo.path, 'gone'));
  turnTo('other');
  const first = await fixture.prepare({ vm: 'other' });
  expect(first).toMatchObject({ vm: 'other', files: 5 });
  expect(first.update).toBeUndefined();
  expect(viewOf(copy)).toEqual(viewOf(repo));
  expect(await fixture.prepare({ vm: 'other' })).toMatchObject({ files: 0, update: { removed: 0 } });

  turnTo('web');
  expect(read('dir/0')).toBe('0\n');
  expect(await fixture.prepare({ vm: 'web' })).toMatchObject({ files: 1, update: { removed: 1, kept: [] } });
  expect(viewOf(copy)).toEqual(viewOf(repo));

  // What one guest changes is in nobody's way in the other.
  copy.write('dir/1', 'guest\n');
  repo.write('dir/1', 'host\n');
  await expect(fixture.prepare({ vm: 'web' })).rejects.toMatchObject({ code: 'invalid_state' });
  turnTo('other');
  expect(await fixture.prepare({ vm: 'other' })).toMatchObject({ files: 1 });
  expect(viewOf(copy)).toEqual(viewOf(repo));
  for (const id of [vmId, otherId]) {
    expect(listWorkspaces(context.db, id)).toHaveLength(1);
    expect(readdirSync(vmPaths(context.layout, id).manifests)).toHaveLength(1);
  }
});
