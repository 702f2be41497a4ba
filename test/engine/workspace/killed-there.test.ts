import { existsSync, readdirSync, rmSync } from 'node:fs';
import { dirname } from 'node:path';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { listWorkspaces } from '../../../src/state/workspaces.ts';
import { makeTempDirectory, viewOf } from '../../support/git-repo.ts';
import { mortalPrograms } from '../../support/mortal-programs.ts';
import { createFixture, vmId, type Fixture } from './workspace-fixture.ts';

// Many runs of git each.
vi.setConfig({ testTimeout: 300_000, hookTimeout: 60_000 });

/** More programs than this take no part in a sending: a loop that gets here does not end. */
const mostTurns = 60;

let fixture: Fixture;
let own: ReturnType<typeof makeTempDirectory>;
let programs: ReturnType<typeof mortalPrograms>;
/** The program of the next sending whose shell is killed before it runs; undefined: none */
let turn: number | undefined;
beforeEach(() => {
  own = makeTempDirectory();
  programs = mortalPrograms(own.path);
  turn = undefined;
  fixture = createFixture({
    env: { PATH: programs.path },
    onRun: (argv) => {
      // What looks at the guest before changes nothing there.
      if (turn === undefined || !argv.some((word) => word.includes('mkdir -p "$1.banger-new"'))) return;
      programs.killAt(turn);
      turn = undefined;
    },
  });
});
afterEach(() => {
  fixture.remove();
  own.remove();
});

/** Sends with the guest's side killed at a point. Whether it was over before that, and what it had started. */
async function sendKilledAt(at: number) {
  turn = at;
  const ended = await fixture.prepare().then(
    () => 'done' as const,
    () => 'killed' as const,
  );
  expect(turn, 'all of the tree was sent').toBeUndefined();
  const ran = programs.ran();
  programs.killAt(-1);
  return { ended, ran, isOver: ran.length <= at };
}

const beside = (): string[] => readdirSync(dirname(fixture.guestPath));

test('a first sending that is killed there at any point is no tree or the whole one, and the next one sends it', async () => {
  const { repo, copy, guestPath, context } = fixture;
  repo.write('file', 'one\n');
  repo.write('deep/run', '#!/bin/sh\n', 0o755);
  repo.commit('first');
  repo.write('file', 'two\n');
  const wanted = viewOf(repo);
  const outcomes = new Set<string>();
  const killed: string[] = [];
  let whole: string[] | undefined;
  for (let at = 0; at < mostTurns; at++) {
    const { ended, ran, isOver } = await sendKilledAt(at);
    if (isOver) {
      expect(ended).toBe('done');
      whole = ran;
      break;
    }
    killed.push(ran[at]!);
    const isThere = existsSync(guestPath);
    if (isThere) expect(viewOf(copy), `at ${at}`).toEqual(wanted);
    outcomes.add(`${ended}, ${isThere ? 'there' : 'not there'}`);
    if (ended === 'killed' && !isThere) expect(listWorkspaces(context.db, vmId), `at ${at}`).toEqual([]);
    await fixture.prepare();
    expect(viewOf(copy), `at ${at}`).toEqual(wanted);
    expect(beside(), `at ${at}`).toEqual(['project']);
    expect(listWorkspaces(context.db, vmId)).toMatchObject([{ hostPath: repo.path, guestPath }]);
    // As before the first one.
    rmSync(guestPath, { recursive: true });
    context.db.exec('DELETE FROM workspaces');
  }
  // Each program of a whole sending was the one, from the first to the last, which nobody waits for.
  const waitedFor = (names: readonly string[] = []) => names.filter((name) => name !== 'sync');
  expect(waitedFor(killed)).toEqual(waitedFor(whole));
  expect(new Set(waitedFor(killed))).toEqual(new Set(['rm', 'mkdir', 'tar', 'mv']));
  expect(outcomes).toContain('killed, not there');
  expect(outcomes).toContain('killed, there');
});
