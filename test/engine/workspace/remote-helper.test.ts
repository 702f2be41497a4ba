import { execFile } from 'node:child_process';
import { chmodSync, mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { OperationRegistry } from '../../../src/engine/operations.ts';
import { workspaceUploadPack } from '../../../src/engine/rpc/workspace-methods.ts';
import { protocolVersion } from '../../../src/engine/rpc/messages.ts';
import { serveRpc, streamRoute } from '../../../src/engine/rpc/server.ts';
import { serveWorkspace } from '../../../src/engine/workspace/serve-workspace.ts';
import { resolveLayout } from '../../../src/state/layout.ts';
import { gitEnvironment } from '../../support/git-repo.ts';
import { createFixture, type Fixture } from './workspace-fixture.ts';

// Each fetch starts banger from its sources, and many runs of git.
vi.setConfig({ testTimeout: 120_000, hookTimeout: 60_000 });

let fixture: Fixture;
let home: string;
let close: () => void;
const failures: unknown[] = [];

beforeEach(async () => {
  failures.length = 0;
  fixture = createFixture();
  home = join(fixture.directory, 'home');
  const { engineSocket } = resolveLayout({
    env: { BANGER_HOME: home },
    home,
    uid: process.getuid!(),
    temporaryDirectory: '/tmp',
  });
  for (const directory of [home, dirname(engineSocket)])
    mkdirSync(directory, { recursive: true, mode: 0o700 });
  const server = await serveRpc({
    socketPath: engineSocket,
    routes: [
      streamRoute(workspaceUploadPack, (params, operation, stream) =>
        serveWorkspace(fixture.context, params, { operation, stream }),
      ),
    ],
    operations: new OperationRegistry(),
    // Of whatever build the client is.
    hello: (build) => ({
      protocol: protocolVersion,
      build,
      version: '1.0.0',
      pid: process.pid,
      leaving: false,
    }),
    onError: (error) => failures.push(error),
    onConnections: () => undefined,
  });
  close = () => server.close();
});
afterEach(() => {
  close();
  fixture.remove();
});

/** A directory for PATH with banger under the name by which git looks for it, as a symlink to the executable is. */
function installHelper(): string {
  const bin = join(fixture.directory, 'bin');
  mkdirSync(bin);
  const helper = join(bin, 'git-remote-banger');
  writeFileSync(
    helper,
    `#!/bin/bash\nexec -a git-remote-banger '${process.execPath}' '${resolve('bin/banger.ts')}' "$@"\n`,
  );
  chmodSync(helper, 0o755);
  return bin;
}

async function git(path: string, ...args: string[]): Promise<string> {
  const env = { PATH: path, ...gitEnvironment, BANGER_HOME: home };
  const { stdout } = await promisify(execFile)('git', args, { cwd: fixture.repo.path, env, timeout: 60_000 });
  return stdout;
}

test('git finds banger by its name, and fetches through it what was committed in the VM and what was not', async () => {
  const { repo, copy, guestPath } = fixture;
  repo.write('a', 'a\n');
  repo.commit('first');
  await fixture.prepare();
  copy.write('a', 'in the VM\n');
  copy.git('commit', '-qam', 'in the VM');
  copy.write('loose', 'loose\n');
  const path = `${installHelper()}:${process.env['PATH']}`;
  const head = repo.git('rev-parse', 'HEAD');

  await git(path, 'remote', 'add', 'vm', `banger::web${guestPath}`);
  await git(path, 'fetch', '-q', 'vm');
  expect(repo.git('rev-parse', 'vm/main')).toBe(copy.git('rev-parse', 'HEAD'));
  expect(repo.git('diff', '--name-only', 'HEAD...vm/main')).toBe('a\n');
  await git(path, 'fetch', '-q', 'banger://web', 'refs/banger/worktree');
  expect(repo.git('diff', '--name-only', 'vm/main', 'FETCH_HEAD')).toBe('loose\n');
  expect(repo.git('rev-parse', 'HEAD')).toBe(head);
  expect(failures).toEqual([]);

  await expect(git(path, 'push', 'vm', 'main')).rejects.toThrow('git cannot push into VM "web"');
  await expect(git(path, 'fetch', 'banger::none')).rejects.toThrow('There is no VM named "none"');
});
