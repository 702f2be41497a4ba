import { readdirSync, readFileSync, rmSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import type { EngineContext } from '../../../src/engine/context.ts';
import { EventBus, type EngineEvent } from '../../../src/engine/events.ts';
import type { Failure } from '../../../src/engine/failpoints.ts';
import type { Operation } from '../../../src/engine/operations.ts';
import { exportWorkspaceRoute } from '../../../src/engine/workspace/export-workspace.ts';
import { applyWorkspaceRoute } from '../../../src/engine/workspace/handlers.ts';
import { prepareWorkspace } from '../../../src/engine/workspace/prepare-workspace.ts';
import { listWorkspaces } from '../../../src/state/workspaces.ts';
import { makeTempDirectory } from '../../support/git-repo.ts';
import { pointsOf, runWith } from '../../support/vm-world.ts';
import { createFixture, vmId } from './workspace-fixture.ts';

const kind = 'workspace.prepare';
/** Many runs of git, each a process. */
const timeoutMs = 180_000;

const temporary = makeTempDirectory();
beforeAll(() => void vi.stubEnv('TMPDIR', temporary.path));
afterAll(() => {
  vi.unstubAllEnvs();
  temporary.remove();
});

/** All points that a prepare passes, which the first test checks. */
const points = [
  'Reading working tree:before',
  'Reading changes:before',
  'Sending 2 files:before',
  'update arrived',
  'send announced',
  'tree in place',
].map((name) => `${kind}/${name}`);

/** A tree that was sent once, and is changed here each time before it is sent again. */
async function openWorld() {
  const fixture = createFixture();
  const { context, repo, guestPath, ensureVm } = fixture;
  let version = 0;
  const change = (): void => {
    version++;
    repo.write('file', `${version}\n`);
    // A name of its own for each version: a mixture would be seen.
    repo.git('mv', `of-${version - 1}`, `of-${version}`);
  };
  repo.write('of-0', 'of\n');
  repo.write('file', '0\n');
  repo.commit('first');
  change();
  const flags = {
    includeUntracked: false,
    include: [],
    overwrite: false,
    fullHistory: false,
    readonly: false,
  };
  const params = { path: repo.path, guestPath, ...flags };
  const prepare = (operation: Operation) => prepareWorkspace(context, params, operation, ensureVm);
  await fixture.prepare();
  return {
    fixture,
    prepare,
    change,
    /** The guest has the old tree or the new one, nothing beside it, and the host's repository is as it was */
    expectWhole(before: Record<string, string>, point: string): void {
      expect(repo.snapshot(), point).toEqual(before);
      expect(readdirSync(dirname(guestPath)), point).toEqual(['project']);
      const found = Number(readFileSync(join(guestPath, 'file'), 'utf8'));
      expect([version - 1, version], point).toContain(found);
      expect(readdirSync(guestPath).toSorted(), point).toEqual(['.git', 'file', `of-${found}`]);
      expect(readdirSync(temporary.path), point).toEqual([basename(fixture.directory)]);
    },
    async sendAgain(): Promise<void> {
      await runWith(kind, () => undefined, prepare);
      expect(readFileSync(join(guestPath, 'file'), 'utf8')).toBe(`${version}\n`);
      expect(readdirSync(guestPath).toSorted()).toEqual(['.git', 'file', `of-${version}`]);
      expect(listWorkspaces(context.db, vmId)).toMatchObject([{ hostPath: repo.path, guestPath }]);
    },
    [Symbol.dispose]: () => fixture.remove(),
  };
}

test('a prepare passes these points', { timeout: timeoutMs }, async () => {
  using world = await openWorld();
  world.change();
  expect(await pointsOf(kind, world.prepare)).toEqual(points);
});

test.each(['error', 'enospc', 'eacces', 'timeout'] as const)(
  'a prepare that fails anywhere with %s leaves one whole tree, and asking again sends the new one',
  { timeout: timeoutMs },
  async (failure) => {
    using world = await openWorld();
    for (const point of points) {
      world.change();
      const before = world.fixture.repo.snapshot();
      const failing = runWith(kind, (reached) => (reached === point ? failure : undefined), world.prepare);
      await expect(failing, point).rejects.toThrow();
      world.expectWhole(before, point);
      await world.sendAgain();
    }
  },
);

test(
  'a prepare that hangs anywhere can be cancelled, and leaves one whole tree',
  { timeout: timeoutMs },
  async () => {
    using world = await openWorld();
    for (const point of points) {
      world.change();
      const before = world.fixture.repo.snapshot();
      const cancel = new AbortController();
      const hang = (reached: string): Failure | undefined => {
        if (reached !== point) return undefined;
        setImmediate(() => cancel.abort());
        return 'hang';
      };
      await expect(runWith(kind, hang, world.prepare, cancel.signal), point).rejects.toMatchObject({
        code: 'cancelled',
      });
      world.expectWhole(before, point);
      await world.sendAgain();
    }
  },
);

test(
  'an export after a prepare that died between tree and record compares with the tree that is there',
  { timeout: timeoutMs },
  async () => {
    using world = await openWorld();
    const { fixture } = world;
    for (const point of ['send announced', 'tree in place']) {
      world.change();
      const die = (reached: string): Failure | undefined =>
        reached === `${kind}/${point}` ? 'error' : undefined;
      await expect(runWith(kind, die, world.prepare), point).rejects.toThrow();
      expect((await fixture.export()).files, point).toEqual([]);
      fixture.copy.write('made', 'in the guest\n');
      expect((await fixture.export()).files, point).toMatchObject([{ path: 'made' }]);
      rmSync(join(fixture.guestPath, 'made'));
    }
  },
);

test(
  'an export and an apply are told as events; looking, and changing nothing, are not',
  { timeout: timeoutMs },
  async () => {
    using world = await openWorld();
    const { fixture } = world;
    const events: EngineEvent[] = [];
    const bus = new EventBus(() => undefined);
    bus.subscribe((event) => events.push(event));
    const context = { ...fixture.context, events: bus } as unknown as EngineContext;
    const { repo, copy, guestPath, operation } = fixture;
    const apply = (dryRun: boolean) =>
      applyWorkspaceRoute(
        context,
        { path: repo.path, dryRun, markers: false, ours: [], umask: 0o022 },
        operation,
      );
    await apply(false);
    copy.write('made', 'in the guest\n');
    const stream = { send: async () => undefined, onFrame: () => undefined };
    for (const format of ['list', 'patch'] as const)
      await exportWorkspaceRoute(context, { path: repo.path, format }, { operation, stream });
    await apply(true);
    await apply(false);
    const about = { type: 'workspace', id: vmId, name: 'web', hostPath: repo.path, guestPath };
    expect(events).toMatchObject([
      { ...about, action: 'exported' },
      { ...about, action: 'applied' },
    ]);
    expect(events).toHaveLength(2);
  },
);
