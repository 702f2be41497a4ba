import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { connect, type AddressInfo } from 'node:net';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { afterAll, expect, test, type TestContext } from 'vitest';
import { openBanger, until } from '../support/banger.ts';
import { createRepo } from '../support/git-repo.ts';
import { busyboxTar, miseTar } from '../support/images.ts';
import { putImage, startRegistry } from '../support/registry.ts';
import { freePort } from '../support/registry-server.ts';
import { openTerminal } from '../support/terminal.ts';

const banger = openBanger();
const terminal = openTerminal(banger);
afterAll(async () => {
  terminal.close();
  await banger[Symbol.asyncDispose]();
});

test('a devcontainer.json shapes a VM once it was agreed to on a terminal, and nothing of it runs here', async () => {
  await using registry = await startRegistry();
  putImage(registry, 'team/app', {
    tag: 'dev',
    layers: [readFileSync(await busyboxTar())],
    env: ['FROM_IMAGE=1', 'PATH=/bin'],
  });
  const port = await freePort();
  const tree = join(banger.home, 'app');
  const file = '.devcontainer/devcontainer.json';
  const repo = createRepo(tree);
  repo.write(
    file,
    `{
  // As other tools read it: comments, and commas where nothing follows.
  "image": "${registry.host}/team/app:dev",
  "forwardPorts": [${port}],
  "containerEnv": { "MODE": "dev", "LIB": "\${containerWorkspaceFolder}/lib" },
  "workspaceFolder": "/workspaces/\${localWorkspaceFolderBasename}",
  "initializeCommand": "touch ${tree}/ran-here",
  "features": { "example.org/node:1": {} },
  "postCreateCommand": { "one": "pwd >>/root/made; echo $MODE >>/root/made", "two": ["sh", "-c", "echo two >>/root/made"], },
}
`,
  );
  repo.commit('begin');
  const refused = await banger.run(['vm', 'run', '.', '--', 'true'], { cwd: tree });
  expect(refused).toMatchObject({ code: 125, stdout: '' });
  expect(refused.stderr).toContain(`"${file}": "initializeCommand", "features" are not honoured\n`);
  expect(refused.stderr).toContain('agree with --trust');

  terminal.open(`cd ${tree}; ${banger.argv.join(' ')} vm run --name dev .; echo "exit code $?"`);
  const question = await terminal.onScreen(/\[y\/N\]/);
  expect(question).toContain(
    '    $ pwd >>/root/made; echo $MODE >>/root/made\n    $ sh -c "echo two >>/root/made"\n',
  );
  terminal.type('y');
  await terminal.onScreen(/\/app #$/m);
  terminal.type('clear; cat /root/made; echo "$MODE: $LIB $FROM_IMAGE"; stty size');
  await terminal.onScreen(/^\/workspaces\/app\ndev\ntwo\ndev: \/workspaces\/app\/lib 1\n30 100$/m);
  terminal.resize(90, 25);
  terminal.type('clear; sleep 1; stty size; exit 4');
  await terminal.onScreen(/^25 90\n[^]*^exit code 4$/m);

  expect(await banger.guest('dev', 'pwd; echo $MODE')).toBe('/workspaces/app\ndev');
  expect(await banger.ok(['vm', 'ssh', 'dev', '--', 'pwd; echo $MODE'])).toBe('/workspaces/app\ndev');
  const { ports } = await banger.json<{ ports: { hostPort: number; guestPort: number; bind: string }[] }>(
    'vm',
    'show',
    'dev',
  );
  expect(ports).toMatchObject([{ hostPort: port, guestPort: port, bind: '127.0.0.1' }]);
  await banger.guest('dev', `nc -ll -p ${port} -e echo from the guest </dev/null >/dev/null 2>&1 &`);
  await until('the port leads into the guest', async () => (await received(port)) === 'from the guest\n');

  // Sent again, it is set up no second time, and stays what it was made.
  repo.write(file, readFileSync(join(tree, file), 'utf8').replace('"dev"', '"prod"'));
  const again = await banger.run(['workspace', 'prepare', '.'], { cwd: tree });
  expect(again.stderr).toContain(`"${file}" has changed since VM "dev" was made from it`);
  expect(await banger.guest('dev', `grep -c prod ${file}; wc -l </root/made; echo $MODE`)).toBe('1\n3\ndev');
  expect(existsSync(join(tree, 'ran-here'))).toBe(false);
  await banger.ok(['vm', 'delete', 'dev']);
});

test('mise installs in the VM what a tree names, and programs, shells and tasks there have it', async (context) => {
  const tar = await miseOrSkip(context);
  await banger.ok(['image', 'import', tar, '--name', 'mise']);
  const tools = join(banger.home, 'tools');
  const tree = join(banger.home, 'project');
  const made = createRepo(tools);
  made.write('hello/bin/hello', '#!/bin/sh\necho "hello $*"\n', 0o755);
  const archive = execFileSync('tar', ['-C', tools, '-cz', 'hello']);
  await using server = createServer((_, response) => void response.end(archive)).listen(0, '127.0.0.1');
  await new Promise((resolve) => server.once('listening', resolve));
  const url = `http://10.0.2.2:${(server.address() as AddressInfo).port}/hello.tar.gz`;
  const repo = createRepo(tree);
  repo.write(
    'mise.toml',
    `[tools]\n"http:hello" = { version = "1.0", url = "${url}", bin_path = "hello/bin" }
[env]\nMODE = "it's mise's"\n[tasks.greet]\nrun = "hello task"\n`,
  );
  repo.commit('begin');

  const script = 'hello "a b"; echo "$MODE $TOKEN"; mise run greet; exit 7';
  const run = await banger.run(
    [
      ...['vm', 'run', '--name', 'mise', '--image', 'mise', '--memory', '512M', '--secret', 'TOKEN'],
      ...['--trust', '.', '--', 'sh', '-c', script],
    ],
    { cwd: tree, env: { TOKEN: 'lent' } },
  );
  expect(run, run.stderr).toMatchObject({ code: 7, stdout: "hello a b\nit's mise's lent\nhello task\n" });
  expect(await banger.ok(['vm', 'exec', 'mise', '--', 'hello', 'a  b', '$x'])).toBe('hello a  b $x');
  expect((await banger.run(['vm', 'exec', 'mise', '--', 'no-such-tool'])).code).toBe(127);
  expect((await banger.run(['vm', 'ssh', 'mise'], { input: 'hello shell; exit 4\n' })).stdout).toContain(
    'hello shell\n',
  );

  // Whoever breaks the file in the VM gets a shell to mend it.
  const broken = await banger.run(['vm', 'exec', 'mise', '--', 'sh', '-c', 'echo "[" >>mise.toml']);
  expect(broken.code, broken.stderr).toBe(0);
  const shell = await banger.run(['vm', 'ssh', 'mise'], { input: 'echo in a shell; exit 5\n' });
  expect(shell).toMatchObject({ code: 5, stdout: expect.stringContaining('in a shell\n') as string });
  expect(shell.stderr).toContain('banger: no tools and variables of mise here, for the reason above\n');
});

async function miseOrSkip({ skip }: TestContext): Promise<string> {
  return miseTar().catch((error: unknown) => skip(`npm cannot get mise: ${String(error).slice(0, 300)}`));
}

/** What somebody at a port of the host sends; nothing when nobody does. */
async function received(port: number): Promise<string> {
  return text(connect(port, '127.0.0.1')).catch(() => '');
}
