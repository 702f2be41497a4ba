import { chmodSync, existsSync, mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { EngineContext } from '../../../src/engine/context.ts';
import { bootstrapTools } from '../../../src/engine/setup/bootstrap-tools.ts';
import { dropNewTools, renewTools } from '../../../src/engine/setup/furnish-vm.ts';
import { withMise } from '../../../src/engine/setup/guest-mise.ts';
import { plannedReach, whyCutOff } from '../../../src/engine/setup/mise-source.ts';
import { setUp } from '../../../src/engine/setup/set-up.ts';
import { findToolFiles } from '../../../src/engine/setup/tool-files.ts';
import { parseConfig } from '../../../src/state/config.ts';
import { getVm } from '../../../src/state/vms.ts';
import { listWorkspaces } from '../../../src/state/workspaces.ts';
import { prepareWorkspaceRoute } from '../../../src/engine/workspace/handlers.ts';
import { createFixture, vmId, type Fixture } from '../workspace/workspace-fixture.ts';

let fixture: Fixture;
let bin: string;
let environment: Record<string, string>;
const notes: string[] = [];

/** A guest that has these programs and the host's; its installer is a file, fetched by a curl that copies. */
beforeEach(() => {
  environment = {};
  fixture = createFixture({ env: environment });
  bin = join(fixture.directory, 'bin');
  mkdirSync(bin);
  environment['PATH'] = `${bin}:/usr/bin:/bin`;
  environment['LOG'] = join(fixture.directory, 'log');
  notes.length = 0;
  installer = 'http://127.0.0.1/install';
});
afterEach(() => fixture.remove());

const program = (name: string, script: string): void => {
  writeFileSync(join(bin, name), `#!/bin/sh\n${script}\n`);
  chmodSync(join(bin, name), 0o755);
};
const fakeMise =
  'echo "$*" >>"$LOG"; [ "$1" != install ] || { echo "tools of $(cat .tool-versions)"; exit ${FAIL:-0}; }';
const ran = (): string[] => {
  const log = join(fixture.directory, 'log');
  return existsSync(log) ? readFileSync(log, 'utf8').trim().split('\n') : [];
};
/** Found without a network; nobody asks there. */
let installer = 'http://127.0.0.1/install';
const context = (): EngineContext =>
  ({
    ...fixture.context,
    config: () => parseConfig(`[mise]\ninstaller = "${installer}"\n`, 'c'),
  }) as unknown as EngineContext;
const operation = () => ({ ...fixture.operation, note: (sentence: string) => void notes.push(sentence) });
const tools = () => listWorkspaces(fixture.context.db, vmId)[0]?.tools;

async function bootstrap(env: Record<string, string> = {}): Promise<void> {
  const files = (await findToolFiles(fixture.repo.path))!;
  const { guestPath } = fixture;
  await bootstrapTools(
    context(),
    { vm: getVm(fixture.context.db, vmId), guestPath, files, env },
    operation(),
  );
}

async function sendTree(): Promise<void> {
  fixture.repo.write('.tool-versions', 'node 22\n');
  fixture.repo.commit('tools');
  await fixture.prepare();
}

test('tools are installed by the mise that is there, what it prints is told, and it is recorded', async () => {
  program('mise', fakeMise);
  await sendTree();
  await bootstrap();
  expect(ran()).toEqual(['install']);
  expect(notes).toEqual(['  tools of node 22']);
  expect(tools()).toMatchObject({ mise: join(bin, 'mise') });
  // Sent again, the record stays.
  await fixture.prepare({ overwrite: true });
  expect(tools()).toMatchObject({ mise: join(bin, 'mise') });
});

test('without consent, mise is run where the tree has no file that it could read', async () => {
  program(
    'mise',
    'pwd >>"$LOG"; find . -type f | sort >>"$LOG"; [ "$1" != env ] || echo "export TOOL=of-mise"',
  );
  await sendTree();
  await bootstrap();
  const { directory } = tools()!;
  const seen = [
    directory!.replace('/var/lib/banger', join(fixture.directory, 'guest-state')),
    './.tool-versions',
  ];
  expect(ran()).toEqual(seen);
  // Nor later, when somebody has put one there, or works further down.
  fixture.copy.write('mise.toml', '[env]\nX = "{{ exec(command=\'evil\') }}"\n');
  const guest = await fixture.context.guest(getVm(fixture.context.db, vmId), fixture.operation.signal);
  const argv = withMise({ directory: fixture.guestPath, ...tools()! }, ['sh', '-c', 'echo $TOOL; pwd']);
  const { stdout } = await guest.run(argv, { workingDirectory: fixture.guestPath });
  expect(stdout.toString()).toBe(`of-mise\n${fixture.guestPath}\n`);
  expect(ran()).toEqual([...seen, ...seen]);
});

test('where a tree is sent again without a look at its tools, those that were agreed to are gone without first', async () => {
  program('mise', fakeMise);
  await sendTree();
  const place = {
    vm: getVm(fixture.context.db, vmId),
    hostPath: fixture.repo.path,
    guestPath: fixture.guestPath,
  };
  fixture.repo.write('mise.toml', '[hooks]\nenter = "agreed"\n');
  const { sha256 } = (await findToolFiles(fixture.repo.path))!;
  await renewTools(context(), { ...place, trustTools: sha256 }, operation());
  expect(tools()).toMatchObject({ directory: fixture.guestPath });
  await dropNewTools(context(), place, operation());
  expect(tools()).toBeDefined();
  fixture.repo.write('mise.toml', '[hooks]\nenter = "evil"\n');
  notes.length = 0;
  await dropNewTools(context(), place, operation());
  expect(tools()).toBeUndefined();
  expect(notes).toEqual([
    expect.stringMatching(/"mise.toml" .* more than was agreed to: .* VM "web" go without/),
  ]);
});

test.each(['mise.local.toml', '.config/mise/conf.d/x.toml'])(
  'nor do those that were agreed to stay when nothing but %s is in the place of their file',
  async (name) => {
    program('mise', fakeMise);
    await sendTree();
    const { repo, guestPath } = fixture;
    const place = { vm: getVm(fixture.context.db, vmId), hostPath: repo.path, guestPath };
    rmSync(join(repo.path, '.tool-versions'));
    repo.write('mise.toml', '[hooks]\nenter = "agreed"\n');
    const { sha256 } = (await findToolFiles(repo.path))!;
    await renewTools(context(), { ...place, trustTools: sha256 }, operation());
    rmSync(join(repo.path, 'mise.toml'));
    repo.write(name, '[env]\nX = "{{ exec(command=\'evil\') }}"\n');
    notes.length = 0;
    await dropNewTools(context(), place, operation());
    expect(tools()).toBeUndefined();
    expect(notes).toEqual([
      expect.stringMatching(/files that named its tools are gone .* VM "web" go without/),
    ]);
  },
);

test('a file that only names tools asks for nothing', async () => {
  fixture.repo.write(
    'mise.toml',
    'min_version = "2024.1"\n[tools]\nnode = ["20", "22"]\npython = { version = "3" }\n',
  );
  expect((await findToolFiles(fixture.repo.path))?.demanding).toEqual([]);
});

test('a mise that fails is told with the way out, and nothing is recorded', async () => {
  program('mise', fakeMise);
  await sendTree();
  await expect(bootstrap({ FAIL: '7' })).rejects.toMatchObject({
    code: 'command_failed',
    message: '".tool-versions" asks for tools, and mise install failed with exit code 7',
    hint: expect.stringContaining('--no-bootstrap') as string,
  });
  expect(tools()).toBeUndefined();
});

test('an installer that fails is told with the way out', async () => {
  program('curl', 'shift 6; printf "echo broken; exit 1" >"$1"');
  await sendTree();
  await expect(bootstrap()).rejects.toMatchObject({
    message: '".tool-versions" asks for tools, the image has no mise, and its installer failed',
    hint: expect.stringContaining('--no-bootstrap') as string,
  });
});

test.each([
  [
    'cannot reach the installer',
    [['curl', 'exit 6']],
    'the guest cannot fetch it from http://127.0.0.1/install',
  ],
  ['has nothing to fetch with', [], 'has neither curl nor wget to fetch it with'],
] as const)('a guest that %s goes without the tools, and that is told', async (_, programs, why) => {
  await sendTree();
  environment['PATH'] = bin;
  for (const name of ['mktemp', 'rm', 'sh']) symlinkSync(join('/usr/bin', name), join(bin, name));
  for (const [name, script] of programs) program(name, script);
  await bootstrap();
  expect(notes).toEqual([
    `Warning: ".tool-versions" asks for tools, and the VM goes without them: the image has no mise, and ${why}. To have them: an image with mise or the tools (--image); to go without in any case: --no-bootstrap`,
  ]);
  expect(tools()).toBeUndefined();
});

test('mise is fetched into a guest that has none, once, and installs the tools', async () => {
  // It writes beside this curl, and not where it is told to: that is a directory of this host.
  const installer = `echo "to $MISE_INSTALL_PATH" >>"$LOG"
cat >'${bin}/mise' <<'END'
#!/bin/sh
${fakeMise}
END
chmod +x '${bin}/mise'`;
  writeFileSync(join(fixture.directory, 'installer'), installer);
  program('curl', `shift 6; echo "fetch $2" >>"$LOG"; exec cp '${fixture.directory}/installer' "$1"`);
  await sendTree();
  await bootstrap();
  const fetched = ['fetch http://127.0.0.1/install', 'to /usr/local/bin/mise'];
  expect(ran()).toEqual([...fetched, 'install']);
  expect(tools()).toMatchObject({ mise: join(bin, 'mise') });
  await bootstrap();
  expect(ran()).toEqual([...fetched, 'install', 'install']);
});

test.each([
  [`network = 'none'`, 'the VM has no network (--network none)'],
  [`egress = 'none'`, 'the VM may reach nothing outside (--egress none)'],
])('in a VM with %s, tools that it does not have are told and gone without', async (column, why) => {
  program('curl', 'echo fetch >>"$LOG"');
  await sendTree();
  fixture.context.db.exec(`UPDATE vms SET ${column}`);
  await bootstrap();
  expect(notes.splice(0)).toEqual([
    `Warning: ".tool-versions" asks for tools, and the VM goes without them: the image has no mise, and ${why}. To have them: an image with mise or the tools (--image); to go without in any case: --no-bootstrap`,
  ]);
  expect(ran()).toEqual([]);
  // Its own mise may have them; it is no error either when it does not.
  program('mise', `echo "offline $MISE_OFFLINE" >>"$LOG"; ${fakeMise}`);
  await bootstrap({ FAIL: '1' });
  expect(ran()).toEqual(['offline 1', 'install']);
  expect(notes.splice(0)).toEqual([
    '  tools of node 22',
    expect.stringContaining(`goes without them: mise could not install them, and ${why}.`),
  ]);
  expect(tools()).toBeUndefined();
  await bootstrap();
  expect(tools()).toMatchObject({ mise: join(bin, 'mise') });
});

test('where this host does not find the installer, no guest has to try', async () => {
  program('curl', 'echo fetch >>"$LOG"');
  installer = 'https://mise.invalid/install';
  await sendTree();
  await bootstrap();
  expect(notes).toEqual([
    expect.stringContaining('this host does not find "mise.invalid", where it would come from.'),
  ]);
  expect(ran()).toEqual([]);
});

test('what a VM will reach is what is asked for, and where nothing is said what the configuration has', () => {
  const config = parseConfig('[vm]\nnetwork = "none"\negress = "none"\n', 'c');
  const reach = (asked: { network?: string; egress?: string[] }) =>
    whyCutOff(plannedReach({ config: () => config }, asked));
  expect(reach({})).toBe('the VM has no network (--network none)');
  expect(reach({ network: 'user' })).toBe('the VM may reach nothing outside (--egress none)');
  expect(reach({ network: 'user', egress: ['git.example.org'] })).toBeUndefined();
  expect(reach({ network: 'user', egress: ['all'] })).toBeUndefined();
});

test('a file that names tools and did not travel installs nothing', async () => {
  program('mise', fakeMise);
  fixture.repo.write('a', '1\n');
  fixture.repo.commit('one');
  await fixture.prepare();
  fixture.repo.write('mise.toml', '[tools]\n');
  await bootstrap();
  expect(ran()).toEqual([]);
  expect(tools()).toBeUndefined();
});

test('a tree that was sent again gets tools when it names others, and none when it names none any more', async () => {
  program('mise', fakeMise);
  await sendTree();
  const place = {
    vm: getVm(fixture.context.db, vmId),
    hostPath: fixture.repo.path,
    guestPath: fixture.guestPath,
  };
  await renewTools(context(), place, operation());
  await renewTools(context(), place, operation());
  expect(ran().filter((line) => line === 'install')).toHaveLength(1);
  fixture.repo.write('.tool-versions', 'node 24\n');
  await renewTools(context(), place, operation());
  expect(ran().filter((line) => line === 'install')).toHaveLength(2);
  rmSync(join(fixture.repo.path, '.tool-versions'));
  await renewTools(context(), place, operation());
  expect(tools()).toBeUndefined();
});

test.each([
  ['mise.toml', '[tools]\nnode = "22"\n[hooks]\npostinstall = "evil"\n'],
  ['.mise.toml', '[tools]\nnode = { version = "22", postinstall = "evil" }\n'],
  ['mise.toml', '[tools]\nnode = "{{ exec(command=\'evil\') }}"\n'],
  ['.tool-versions', 'node {{ exec(command="evil") }}\n'],
  ['mise.toml', '[env]\n_.source = "./evil.sh"\n'],
  ['mise.toml', 'no toml ['],
  ['.config/mise/conf.d/more.toml', '[hooks]\nenter = "evil"\n'],
  ['mise.local.toml', '[hooks]\nenter = "evil"\n'],
])('of %s, what has mise do more than install tools is agreed to first', async (name, text) => {
  program('mise', fakeMise);
  await sendTree();
  const place = {
    vm: getVm(fixture.context.db, vmId),
    hostPath: fixture.repo.path,
    guestPath: fixture.guestPath,
  };
  fixture.repo.write(name, text);
  await expect(renewTools(context(), place, operation())).rejects.toMatchObject({
    code: 'invalid_argument',
    message: `"${name}" of "${fixture.repo.path}" has mise do more than install tools, and nobody has agreed to that`,
    hint: expect.stringContaining('--trust') as string,
  });
  expect(ran()).toEqual([]);
  const { sha256, demanding } = (await findToolFiles(fixture.repo.path))!;
  expect(demanding).toEqual([{ name, text }]);
  await renewTools(context(), { ...place, trustTools: sha256 }, operation());
  expect(ran()).toEqual(['trust --all', 'install']);
  // Once for these bytes.
  fixture.repo.write(name, `${text}#`);
  await expect(renewTools(context(), place, operation())).rejects.toThrow('nobody has agreed');
  fixture.repo.write(name, text);
  await renewTools(context(), place, operation());
});

test('a tree whose tools take consent is not sent to a VM that is there before somebody agrees', async () => {
  const { repo, guestPath, commands } = fixture;
  repo.write('mise.toml', '[hooks]\nenter = "evil"\n');
  repo.commit('first');
  const params = {
    ...{ path: repo.path, vm: 'web', guestPath, include: [], includeUntracked: false, bootstrap: true },
    ...{ overwrite: false, fullHistory: false, readonly: false },
  };
  const send = (): Promise<unknown> => prepareWorkspaceRoute(context(), params, operation());
  await expect(send()).rejects.toThrow('nobody has agreed to that');
  // Nor is what it names after it was sent.
  expect(commands).toEqual([]);
  await fixture.prepare();
  commands.length = 0;
  repo.write('mise.toml', '[hooks]\nenter = "more evil"\n');
  await expect(send()).rejects.toThrow('nobody has agreed to that');
  await expect(
    prepareWorkspaceRoute(
      context(),
      { ...params, vm: undefined, path: join(repo.path, '.git/..') },
      operation(),
    ),
  ).rejects.toThrow('nobody has agreed to that');
  expect(commands).toEqual([]);
});

test('setup commands run in the tree with its tools and variables, and the first that fails ends it', async () => {
  program('mise', `[ "$1" != env ] || { echo "export TOOL=of-mise"; exit; }; ${fakeMise}`);
  await sendTree();
  await bootstrap();
  notes.length = 0;
  const template = {
    file: 'banger.toml',
    sha256: 'a'.repeat(64),
    ports: [],
    env: {},
    bootstrap: true,
    setup: [
      {
        argv: ['sh', '-c', 'pwd; printf "10%%\\r100%%\\n\\033[31m$MODE $TOOL\\033[0m\\n" >&2'],
        text: 'first',
      },
      { argv: ['sh', '-c', 'exit 3'], text: 'second' },
      { argv: ['touch', join(fixture.directory, 'never')], text: 'third' },
    ],
  };
  const { guestPath } = fixture;
  const input = { vm: getVm(fixture.context.db, vmId), guestPath, template, env: { MODE: 'dev' } };
  await expect(setUp(fixture.context, input, operation())).rejects.toThrow(
    'Setup command "second" of "banger.toml" failed with exit code 3',
  );
  expect(notes.toSorted()).toEqual([`  ${guestPath}`, '  100%', '  dev of-mise'].toSorted());
  expect(existsSync(join(fixture.directory, 'never'))).toBe(false);
});
