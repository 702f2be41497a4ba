import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { openBanger } from '../support/banger.ts';
import { createRepo, openRepo } from '../support/git-repo.ts';

const banger = openBanger();
const tree = join(banger.home, 'tree');
const run = (...words: string[]) => banger.run(['vm', 'run', ...words], { cwd: tree });
const patches = join(banger.home, 'state/patches');

beforeAll(() => {
  const repo = createRepo(tree);
  repo.write('greeting.txt', 'hello\n');
  repo.write('fail.sh', '#!/bin/sh\necho out; echo err >&2; exit 42\n', 0o755);
  repo.commit('begin');
});
afterEach(async () => {
  expect(await banger.json('vm', 'list')).toEqual([]);
  const directories = join(banger.home, 'state/vms');
  expect(existsSync(directories) ? readdirSync(directories) : []).toEqual([]);
});
afterAll(() => banger[Symbol.asyncDispose]());

test('a command runs in the tree: output, error output and exit code are its own, and the VM goes', async () => {
  const { code, stdout, stderr } = await run('.', '--', './fail.sh');
  expect({ code, stdout }, stderr).toEqual({ code: 42, stdout: 'out\n' });
  expect(stderr).toContain('err\n');
});

test('what the command changed is saved as a patch for git apply', async () => {
  const { code, stderr } = await run('.', '--', 'sh', '-c', 'echo world >>greeting.txt; echo new >new.txt');
  expect(code, stderr).toBe(0);
  const [patch] = readdirSync(patches);
  expect(stderr).toContain(`git apply ${join(patches, patch!)}`);
  execFileSync('git', ['apply', join(patches, patch!)], { cwd: tree });
  expect(readFileSync(join(tree, 'greeting.txt'), 'utf8')).toBe('hello\nworld\n');
});

test('--keep keeps the VM, and --json tells about it', async () => {
  const { stdout } = await run('--keep', '--json', '.', '--', 'true');
  const summary = JSON.parse(stdout) as { vm: string };
  expect(summary).toMatchObject({ exitCode: 0, removed: false, stages: expect.any(Array) });
  expect(await banger.json('vm', 'show', summary.vm)).toMatchObject({
    state: 'running',
    workspaces: [{ hostPath: tree, guestPath: '/root/tree' }],
  });
  expect(await banger.guest(summary.vm, 'pwd')).toBe('/root/tree');
  await banger.ok(['vm', 'delete', summary.vm]);
});

test('banger.toml shapes the VM once it was agreed to, and the VM keeps what it was made from', async () => {
  const file = join(tree, 'banger.toml');
  const setup = 'setup = ["echo setting up; pwd >/root/made; echo $MODE >>/root/made"]';
  writeFileSync(file, `memory = "192M"\nports = [3000]\n${setup}\n[env]\nMODE = "dev"\n`);
  const refused = await run('.', '--', 'true');
  expect(refused.code).toBe(125);
  expect(refused.stderr).toContain('  $ echo setting up; pwd >/root/made; echo $MODE >>/root/made\n');
  expect(refused.stderr).toContain('then agree with --trust');

  const made = await banger.run(['workspace', 'prepare', tree, '--trust', '--json']);
  expect(made.code, made.stderr).toBe(0);
  const { vm } = JSON.parse(made.stdout) as { vm: string };
  expect(made.stderr).toContain('"Note","detail":"  setting up"');
  expect(await banger.guest(vm, 'cat /root/made; echo $MODE')).toBe('/root/tree\ndev\ndev');
  expect(await banger.json('vm', 'show', vm)).toMatchObject({
    memoryMib: 192,
    ports: [{ guestPort: 3000, bind: '127.0.0.1' }],
    template: { file: 'banger.toml', hostPath: tree, env: { MODE: 'dev' } },
  });

  // Agreed to, it is not asked about again; another content is, and changes no VM that exists.
  writeFileSync(file, `${setup}\n# another one\n[env]\nMODE = "new"\n`);
  const again = await banger.run(['workspace', 'prepare', tree]);
  expect(again.code, again.stderr).toBe(0);
  expect(again.stderr).toContain(`"banger.toml" has changed since VM "${vm}" was made from it`);
  expect(await banger.guest(vm, 'echo $MODE')).toBe('dev');
  expect((await run('.', '--', 'true')).code).toBe(125);
  await banger.ok(['vm', 'delete', vm]);

  writeFileSync(file, 'setup = ["echo so far; exit 3", "touch /root/never"]\n');
  const failed = await run('--trust', '.', '--', 'echo', 'never');
  expect(failed).toMatchObject({ code: 125, stdout: '' });
  expect(failed.stderr).toContain(
    'Setup command "echo so far; exit 3" of "banger.toml" failed with exit code 3',
  );
  expect(failed.stderr).toContain('  so far\n');
  rmSync(file);
});

test('-d returns when the VM is ready, and prints its name', async () => {
  const { code, stdout, stderr } = await run('-d', '.');
  expect(code, stderr).toBe(0);
  const vm = stdout.trim();
  writeFileSync(join(banger.home, 'vars'), 'A=from file\nB=file\n');
  const words = [
    'vm',
    'exec',
    '--env-file',
    'vars',
    '-e',
    'B=flag',
    '-w',
    '..',
    vm,
    '--',
    'sh',
    '-c',
    'echo "$A $B $PWD"',
  ];
  expect(await banger.ok(words)).toBe('from file flag /root');

  // The tree names tools: the guest's mise installs them, and programs and shells in the tree have them.
  const mise = `#!/bin/sh
case $1 in
  install) mkdir -p /opt/tools; printf '#!/bin/sh\\necho "tool in $PWD, $*"; exit 7\\n' >/opt/tools/tool; chmod 755 /opt/tools/tool ;;
  env) echo 'export PATH="/opt/tools:$PATH"' ;;
esac
`;
  await banger.guest(
    vm,
    `mkdir -p /usr/local/bin; cat >/usr/local/bin/mise <<'END'\n${mise}END\nchmod 755 /usr/local/bin/mise`,
  );
  const repo = openRepo(tree);
  repo.write('.tool-versions', 'node 22\n');
  repo.commit('tools');
  await banger.ok(['workspace', 'prepare', tree]);
  const tool = await banger.run(['vm', 'exec', vm, '--', 'tool', 'a b']);
  expect(tool, tool.stderr).toMatchObject({ code: 7, stdout: 'tool in /root/tree, a b\n' });
  expect((await banger.run(['vm', 'exec', '-w', '/', vm, '--', 'tool'])).code).toBe(127);
  expect((await banger.run(['vm', 'ssh', vm], { input: 'tool in a shell; exit 4\n' })).stdout).toContain(
    'in a shell\n',
  );
  expect((await banger.run(['vm', 'ssh', vm, '--', 'tool "a b"'])).stdout).toBe('tool in /root/tree, a b\n');
  await banger.ok(['vm', 'delete', vm]);
});

test('tools that cannot be had are told before a VM is made, which goes without; the run is in the directory named', async () => {
  banger.configure('[vm]\nmemory = "256M"\n\n[mise]\ninstaller = "https://mise.invalid/install"\n');
  const repo = openRepo(tree);
  repo.write('.tool-versions', 'node 22\n');
  repo.write('deep/er/file', '1\n');
  repo.commit('a directory');
  const { code, stdout, stderr } = await run('deep/er', '--', 'sh', '-c', 'pwd; ls; exit 6');
  expect({ code, stdout }, stderr).toEqual({ code: 6, stdout: '/root/tree/deep/er\nfile\n' });
  const [before] = stderr.split('Creating disk');
  expect(before).toContain(
    'Warning: ".tool-versions" asks for tools, and the VM goes without them: the image has no mise, and this host does not find "mise.invalid", where it would come from.',
  );
});

test('Ctrl-C ends the command, and the VM goes', async () => {
  const child = banger.start(['vm', 'run', '--', 'sh', '-c', 'echo ready; sleep 600']);
  child.stdout!.once('data', () => child.kill('SIGINT'));
  const code = await new Promise<number | null>((resolve) => child.once('close', resolve));
  expect(code).toBe(130);
});

test('without --, a command is refused with what to type', async () => {
  const { code, stderr } = await run('.', 'make', 'test');
  expect(code).toBe(2);
  expect(stderr).toBe(
    'banger: "make" is one word too many before --\n  Put -- before the command: banger vm run . -- make test\n',
  );
});

test('a file of variables that is not there is told by banger, not by Node, and is none of ours in a command', async () => {
  const { code, stderr } = await run('--env-file', 'nosuch', '--', 'true');
  expect(code).toBe(125);
  expect(stderr).toContain(`There is no file "${join(tree, 'nosuch')}"`);
  const words = ['vm', 'exec', 'nobody', 'docker', 'run', '--env-file', 'nosuch', 'image'];
  expect(await banger.run(words)).toMatchObject({
    code: 125,
    stderr: expect.stringContaining('There is no VM named "nobody"') as string,
  });
});
