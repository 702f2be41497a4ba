import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { EventBus } from '../../../src/engine/events.ts';
import type { WatchLine } from '../../../src/engine/rpc/workspace-methods.ts';
import { watchWorkspace } from '../../../src/engine/workspace/watch-workspace.ts';
import { moveVm } from '../../../src/state/vms.ts';
import { createFixture, vmId, type Fixture } from './workspace-fixture.ts';

vi.setConfig({ testTimeout: 240_000 });

let fixture: Fixture;
let events: EventBus;
beforeEach(() => {
  fixture = createFixture();
  events = new EventBus((error) => {
    throw error;
  });
});
afterEach(() => fixture.remove());

interface Watching {
  /** Rejects when it is over */
  readonly over: Promise<void>;
  readonly abort: AbortController;
  /** The next line */
  next(): Promise<WatchLine>;
  /** Passes over lines until this is true */
  until(isSo: () => boolean): Promise<void>;
  /** Lines nobody has asked for */
  readonly lines: WatchLine[];
}

type WatchParams = Partial<Parameters<typeof watchWorkspace>[1]>;

function watch(params: WatchParams = {}): Watching {
  const lines: WatchLine[] = [];
  let news = Promise.withResolvers<void>();
  const abort = new AbortController();
  const over = watchWorkspace(
    { ...fixture.context, events },
    {
      path: fixture.repo.path,
      guestPath: fixture.guestPath,
      includeUntracked: false,
      include: [],
      overwrite: false,
      ...params,
    },
    {
      operation: { ...fixture.operation, signal: abort.signal },
      stream: {
        send: async (_, content) => {
          lines.push(JSON.parse(content!.toString()) as WatchLine);
          news.resolve();
        },
      },
      ensureVm: fixture.ensureVm,
    },
  );
  const ended = over.then(
    () => undefined,
    () => news.resolve(),
  );
  const next = async (): Promise<WatchLine> => {
    while (lines.length === 0) {
      await Promise.race([news.promise, ended.then(() => over)]);
      news = Promise.withResolvers();
    }
    return lines.shift()!;
  };
  return {
    over,
    abort,
    next,
    async until(isSo) {
      while (!isSo()) await next();
    },
    lines,
  };
}

async function end({ abort, over }: Watching): Promise<void> {
  abort.abort();
  await expect(over).rejects.toMatchObject({ code: 'cancelled' });
}

const read = (path: string): string => readFileSync(join(fixture.copy.path, path), 'utf8');
const isThere = (path: string): boolean => existsSync(join(fixture.copy.path, path));

test('a tree that is watched is sent again when it changes: saved files, commits; what both changed is named', async () => {
  const { repo, copy } = fixture;
  repo.write('dir/a', 'a\n');
  repo.write('b', 'b\n');
  repo.commit('first');
  const watching = watch();
  const { next, until } = watching;
  expect(await next()).toMatchObject({ kind: 'sent', files: 2 });

  // As editors save.
  repo.write('dir/a.new', 'saved\n');
  renameSync(join(repo.path, 'dir/a.new'), join(repo.path, 'dir/a'));
  expect(await next()).toMatchObject({ kind: 'sent', files: 1, update: { conflicts: [] } });
  expect(read('dir/a')).toBe('saved\n');

  copy.write('b', 'guest\n');
  repo.write('b', 'host\n');
  expect(await next()).toMatchObject({ kind: 'sent', files: 0, update: { conflicts: ['b'] } });
  expect(read('b')).toBe('guest\n');
  // It is a change of the guest's still, and can come back as one.
  expect((await fixture.export()).files.map((file) => file.path)).toEqual(['b']);

  repo.git('commit', '-qam', 'second');
  await until(() => copy.git('rev-parse', 'HEAD') === repo.git('rev-parse', 'HEAD'));

  events.publish({ type: 'vm', action: 'stopped', id: vmId, name: 'renamed' });
  await expect(watching.over).rejects.toMatchObject({ message: 'VM "renamed" was stopped' });
});

test('many changes at once are one sending; directories that move and files that go follow', async () => {
  const { repo, copy } = fixture;
  for (let index = 0; index < 40; index++) repo.write(`old/deep/${index}`, `${index}\n`);
  repo.write('gone', 'x\n');
  repo.commit('first');
  const watching = watch();
  const { next, until, lines } = watching;
  await next();
  for (let index = 0; index < 40; index++) repo.write(`old/deep/${index}`, `changed ${index}\n`);
  expect(await next()).toMatchObject({ kind: 'sent', files: 40 });
  expect(lines).toEqual([]);

  repo.git('mv', 'old', 'new');
  rmSync(join(repo.path, 'gone'));
  await until(() => !isThere('gone') && isThere('new/deep/7') && !isThere('old'));
  // Nobody was told of these directories when it began.
  repo.write('new/deep/7', 'in its new place\n');
  await until(() => read('new/deep/7') === 'in its new place\n');
  // One that is removed and made again has the number of the one before, as like as not.
  const saved = readFileSync(join(repo.path, 'new/deep/8'));
  rmSync(join(repo.path, 'new'), { recursive: true });
  await until(() => !isThere('new'));
  repo.write('new/deep/8', saved.toString());
  await until(() => isThere('new/deep/8'));
  repo.write('new/deep/8', 'again\n');
  await until(() => read('new/deep/8') === 'again\n');
  // Ignored files, and others that do not travel, are nobody's business.
  lines.length = 0;
  repo.write('new/untracked', 'x\n');
  repo.write('new/deep/8', 'last\n');
  await until(() => read('new/deep/8') === 'last\n');
  expect(isThere('new/untracked')).toBe(false);
  expect(copy.git('status', '--porcelain=v2')).toBe(repo.git('status', '--porcelain=v2', '-uno'));
  await end(watching);
});

test('branches that are switched on the host, commits that are taken back, and merges follow', async () => {
  const { repo, copy } = fixture;
  repo.write('file', 'one\n');
  const first = repo.commit('first');
  repo.write('file', 'two\n');
  repo.commit('second');
  repo.git('branch', 'side', first);
  const watching = watch();
  const head = (each: Fixture['repo']): string => each.git('rev-parse', 'HEAD');
  await watching.next();
  repo.git('reset', '-q', '--soft', 'HEAD~1');
  await watching.until(() => head(copy) === head(repo));
  expect(copy.git('diff', '--cached', '--name-only')).toBe('file\n');
  repo.git('reset', '-q', '--hard');
  repo.git('switch', '-q', 'side');
  await watching.until(() => copy.git('branch', '--show-current') === 'side\n');
  repo.write('file', 'three\n');
  repo.commit('third');
  await watching.until(() => head(copy) === head(repo));
  expect(() => repo.git('merge', '-q', 'main@{1}')).toThrow();
  await watching.until(() => copy.git('status', '--porcelain').startsWith('UU'));
  expect(copy.git('status', '--porcelain=v2')).toBe(repo.git('status', '--porcelain=v2'));
  await end(watching);
});

test('untracked files and named ones follow, also into directories that were empty', async () => {
  const { repo } = fixture;
  repo.write('.gitignore', 'build/\n*.log\n');
  repo.write('file', 'x\n');
  repo.commit('first');
  mkdirSync(join(repo.path, 'build/out'), { recursive: true });
  mkdirSync(join(repo.path, 'empty/inner'), { recursive: true });
  repo.write('.env', 'one\n');
  const watching = watch({ includeUntracked: true, include: [join(repo.path, 'build')] });
  await watching.next();
  expect(read('.env')).toBe('one\n');
  repo.write('empty/inner/new', 'x\n');
  await watching.until(() => isThere('empty/inner/new'));
  repo.write('build/out/program', 'x\n');
  await watching.until(() => isThere('build/out/program'));
  writeFileSync(join(repo.path, '.env'), 'two\n');
  await watching.until(() => read('.env') === 'two\n');
  rmSync(join(repo.path, 'empty'), { recursive: true });
  await watching.until(() => !isThere('empty'));
  await end(watching);
});

test('what was named and is away for a moment follows when it is there again, with all that is above it', async () => {
  const { repo } = fixture;
  repo.write('.gitignore', '.env\nbuild/\n');
  repo.write('file', 'x\n');
  repo.commit('first');
  // By way of a link: where a path leads is not asked any more once it is gone.
  const link = join(fixture.directory, 'link');
  symlinkSync(repo.path, link);
  const include = ['.env', 'build/out/program'].map((path) => join(link, path));
  await expect(watch({ include }).over).rejects.toMatchObject({ code: 'not_found' });
  repo.write('.env', 'one\n');
  repo.write('build/out/program', 'one\n');
  const watching = watch({ include });
  await watching.next();
  rmSync(join(repo.path, '.env'));
  rmSync(join(repo.path, 'build'), { recursive: true });
  await watching.until(() => !isThere('.env') && !isThere('build'));
  repo.write('build/out/program', 'two\n');
  repo.write('.env', 'two\n');
  await watching.until(() => isThere('.env') && isThere('build/out/program'));
  expect([read('.env'), read('build/out/program')]).toEqual(['two\n', 'two\n']);
  expect(watching.lines.filter(({ kind }) => kind === 'failed')).toEqual([]);
  await end(watching);
});

test('what does not work for now is said once, and done when it works', async () => {
  const { repo, copy } = fixture;
  repo.write('a', 'a\n');
  repo.commit('first');
  await fixture.prepare({ readonly: true });
  const watching = watch();
  const { next, until } = watching;
  await next();
  copy.write('made', 'in the guest\n');
  copy.git('add', 'made');
  copy.git('commit', '-qm', 'in the guest');
  repo.write('a', 'b\n');
  repo.git('commit', '-qam', 'on the host');
  expect(await next()).toMatchObject({
    kind: 'failed',
    message: expect.stringMatching(/commits that would be lost/) as string,
  });
  copy.git('reset', '-q', '--hard', 'HEAD~1');
  await until(() => copy.git('rev-parse', 'HEAD') === repo.git('rev-parse', 'HEAD'));
  // It was sent so that nobody writes to it.
  await expect(fixture.export()).rejects.toMatchObject({
    message: expect.stringMatching(/read-only/) as string,
  });

  // Somebody else's git is at work, longer than anybody waits for it.
  writeFileSync(join(repo.path, '.git/index.lock'), '');
  repo.write('a', 'c\n');
  expect(await next()).toMatchObject({ kind: 'failed' });
  rmSync(join(repo.path, '.git/index.lock'));
  await until(() => read('a') === 'c\n');

  moveVm(fixture.context.db, vmId, 'paused');
  repo.write('a', 'd\n');
  expect(await next()).toMatchObject({ kind: 'failed', message: 'VM "web" is paused, not running' });
  moveVm(fixture.context.db, vmId, 'running');
  await until(() => read('a') === 'd\n');
  await end(watching);
});

test("a branch that only the guest has follows the host's commits, and begins where it began", async () => {
  const { repo, copy } = fixture;
  repo.write('a', 'a\n');
  repo.write('b', 'b\n');
  const first = repo.commit('first');
  repo.write('b', 'b2\n');
  repo.commit('second');
  const ahead = watch({ guestBranch: { name: 'fix' } });
  await ahead.next();
  repo.write('a', 'a2\n');
  const third = repo.commit('third');
  await ahead.until(() => copy.git('rev-parse', 'HEAD').trim() === third);
  expect(copy.git('branch', '--show-current')).toBe('fix\n');
  await end(ahead);

  const behind = watch({ guestBranch: { name: 'old', from: 'HEAD~2' } });
  await behind.next();
  expect(copy.git('rev-parse', 'HEAD').trim()).toBe(first);
  // What is different at the two cannot be carried along; it is said, and waited for.
  repo.write('b', 'mine\n');
  expect(await behind.next()).toMatchObject({
    kind: 'failed',
    message: expect.stringMatching(/different there: "b"/) as string,
  });
  repo.git('checkout', '-q', 'b');
  repo.write('new', 'new\n');
  repo.git('add', '-N', 'new');
  await behind.until(() => isThere('new'));
  repo.git('rm', '-qf', '--cached', 'new');
  repo.git('commit', '-q', '--allow-empty', '-m', 'fourth');
  await behind.until(() => !isThere('new'));
  expect(copy.git('rev-parse', 'HEAD').trim()).toBe(first);
  expect(copy.git('branch', '--show-current')).toBe('old\n');
  await end(behind);
});

test('a commit with the same files follows: an amended message, and one that changes nothing', async () => {
  const { repo, copy } = fixture;
  repo.write('a', 'a\n');
  repo.commit('first');
  const watching = watch();
  expect(await watching.next()).toMatchObject({ kind: 'sent' });
  const message = (): string => copy.git('log', '-1', '--format=%s');
  // Git writes an index anew when it has looked at files; none of these does.
  const head = repo.git('rev-parse', 'HEAD').trim();
  const amended = repo.git('commit-tree', 'HEAD^{tree}', '-m', 'amended').trim();
  repo.git('update-ref', 'HEAD', amended, head);
  await watching.until(() => message() === 'amended\n');
  const empty = repo.git('commit-tree', 'HEAD^{tree}', '-p', 'HEAD', '-m', 'empty').trim();
  repo.git('update-ref', 'HEAD', empty, amended);
  await watching.until(() => message() === 'empty\n');
  await end(watching);
}, 60_000);
