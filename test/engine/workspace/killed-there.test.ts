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

/** Sends with the guest's side killed at a point; undefined when it was over before that. */
async function sendKilledAt(at: number): Promise<'done' | 'killed' | undefined> {
  turn = at;
  const ended = await fixture.prepare().then(
    () => 'done' as const,
    () => 'killed' as const,
  );
  expect(turn, 'all of the tree was sent').toBeUndefined();
  const reached = programs.turns() > at;
  programs.killAt(-1);
  return reached ? ended : undefined;
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
  let at = 0;
  for (; at < mostTurns; at++) {
    const ended = await sendKilledAt(at);
    if (ended === undefined) break;
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
  expect(at).toBeGreaterThan(2);
  expect(at).toBeLessThan(mostTurns);
  expect(outcomes).toContain('killed, not there');
});
