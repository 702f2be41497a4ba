import { readFileSync, renameSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test, vi } from 'vitest';
import { EventBus } from '../../../src/engine/events.ts';
import type { WatchLine } from '../../../src/engine/rpc/workspace-methods.ts';
import { watchWorkspace } from '../../../src/engine/workspace/watch-workspace.ts';
import { createFixture, vmId } from './workspace-fixture.ts';

vi.setConfig({ testTimeout: 240_000 });

test('a tree that is watched is sent again when it changes: saved files, commits; what both changed is named', async () => {
  const fixture = createFixture();
  const events = new EventBus((error) => {
    throw error;
  });
  const lines: WatchLine[] = [];
  let news = Promise.withResolvers<void>();
  const next = async (): Promise<WatchLine> => {
    while (lines.length === 0) {
      await news.promise;
      news = Promise.withResolvers();
    }
    return lines.shift()!;
  };
  try {
    const { repo, copy, guestPath } = fixture;
    repo.write('dir/a', 'a\n');
    repo.write('b', 'b\n');
    repo.commit('first');
    const watching = watchWorkspace(
      { ...fixture.context, events },
      { path: repo.path, guestPath, includeUntracked: false, include: [], overwrite: false },
      {
        operation: fixture.operation,
        stream: {
          send: async (_, content) => {
            lines.push(JSON.parse(content!.toString()) as WatchLine);
            news.resolve();
          },
        },
        ensureVm: fixture.ensureVm,
      },
    );
    watching.catch(() => news.resolve());
    expect(await next()).toMatchObject({ kind: 'sent', files: 2 });

    // As editors save.
    repo.write('dir/a.new', 'saved\n');
    renameSync(join(repo.path, 'dir/a.new'), join(repo.path, 'dir/a'));
    expect(await next()).toMatchObject({ kind: 'sent', files: 1, update: { conflicts: [] } });
    expect(readFileSync(join(copy.path, 'dir/a'), 'utf8')).toBe('saved\n');

    copy.write('b', 'guest\n');
    repo.write('b', 'host\n');
    expect(await next()).toMatchObject({ kind: 'sent', files: 0, update: { conflicts: ['b'] } });
    expect(readFileSync(join(copy.path, 'b'), 'utf8')).toBe('guest\n');
    // It is a change of the guest's still, and can come back as one.
    expect((await fixture.export()).files.map((file) => file.path)).toEqual(['b']);

    repo.git('commit', '-qam', 'second');
    while (copy.git('rev-parse', 'HEAD') !== repo.git('rev-parse', 'HEAD')) await next();

    events.publish({ type: 'vm', action: 'stopped', id: vmId, name: 'web' });
    await expect(watching).rejects.toMatchObject({ message: 'VM "web" was stopped' });
  } finally {
    fixture.remove();
  }
});
