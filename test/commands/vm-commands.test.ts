import { expect, test } from 'vitest';
import { exitCodeOf } from '../../src/commands/attach.ts';
import type { Cli } from '../../src/commands/cli.ts';
import { setText } from '../../src/commands/vm-set.ts';
import { ago } from '../../src/commands/vm-text.ts';
import { programFor, runProgram } from '../support/run-program.ts';

/** Runs `banger WORDS…` against an engine that gives one answer. */
async function run(words: readonly string[], answer: unknown = {}) {
  const calls: [string, unknown][] = [];
  const talk: string[] = [];
  const printed: string[] = [];
  let exitCode = 0;
  const ask = async (method: { name: string }, params: unknown) => {
    if (method.name === 'vm.select') {
      const { references, labels } = params as {
        references: readonly string[];
        labels: readonly { key: string; value?: string }[];
      };
      // As if every VM were labelled with its name, and "all" were on two.
      const names = labels.flatMap(({ key, value }) => (key === 'all' ? ['one', 'two'] : [value ?? key]));
      return [...references, ...names].map((name) => ({ id: name, name }));
    }
    // Trees of these tests say nothing about their VM.
    if (method.name === 'template.read') return { hostPath: '/home/me/tree' };
    calls.push([method.name, params]);
    return answer;
  };
  const cli = {
    json: false,
    cwd: '/home/me/tree',
    call: ask,
    attach: ask,
    follow: ask,
    programTerminal: () => undefined,
    print: (value: unknown, text: (value: unknown) => string) => void printed.push(text(value)),
    say: (line: string) => void talk.push(line),
    forEach: async (names: readonly string[], action: (name: string) => Promise<unknown>) => {
      for (const name of names) await action(name);
    },
    exitWith: (code: number) => {
      exitCode = code;
    },
  } as unknown as Cli;
  await runProgram(cli, words);
  return { params: calls[0]?.[1] as Record<string, unknown>, calls, talk, printed, exitCode };
}

test('VMs are chosen by name or by label, and a choice is needed', async () => {
  await expect(run(['vm', 'stop', 'web', '--label', 'app=web'])).rejects.toThrow('not by both');
  await expect(run(['vm', 'pause'])).rejects.toMatchObject({ code: 'commander.missingArgument' });
});

test('every verb for VMs can choose them by label; a new name is for one VM alone', async () => {
  const program = await programFor({} as Cli, []);
  const { commands } = program.commands.find((command) => command.name() === 'vm')!;
  const forVms = commands.filter(({ registeredArguments: [first] }) => first?.name() === 'vm');
  const without = forVms.filter(
    ({ options }) =>
      !options.some(({ long }) => long === '--label') || !options.some(({ long }) => long === '--filter'),
  );
  expect(without.map((command) => command.name())).toEqual(['rename']);
  expect(forVms.length).toBeGreaterThan(14);
});

test.each([
  ['KILL', 'KILL'],
  ['sigterm', 'TERM'],
  ['15', 'TERM'],
  ['SIGSTOP', 'STOP'],
  ['18', 'CONT'],
  ['9', 'KILL'],
])('kill takes a signal as %s', async (written, signal) => {
  expect((await run(['vm', 'kill', '-s', written, 'web'])).params).toEqual({ vm: 'web', signal });
});

test('exec, ssh and logs take the one VM that has a label', async () => {
  const { params } = await run(['vm', 'exec', '-l', 'app=web', '--', 'uname', '-a']);
  expect(params).toMatchObject({ vm: 'web', argv: ['uname', '-a'] });
  expect((await run(['vm', 'exec', '--label', 'app=web', 'true'])).params).toMatchObject({
    vm: 'web',
    argv: ['true'],
  });
  expect((await run(['vm', 'ssh', '-l', 'app=web'])).params).toMatchObject({ vm: 'web' });
  expect((await run(['vm', 'logs', '-l', 'app=web'])).params).toMatchObject({ vm: 'web', source: 'console' });
  await expect(run(['vm', 'exec', '-l', 'all', '--', 'true'])).rejects.toThrow(
    '2 VMs have that label: one, two',
  );
  await expect(run(['vm', 'exec', 'web'])).rejects.toMatchObject({ code: 'commander.missingArgument' });
  await expect(run(['vm', 'exec', '-l', 'app=web'])).rejects.toMatchObject({
    code: 'commander.missingArgument',
  });
});

test('ssh takes one command line, for a shell and as root, and is a shell without one', async () => {
  const argv = ['/bin/sh', '-c', 'ps aux | grep node'];
  const { params } = await run(['vm', 'ssh', 'web', '--', 'ps', 'aux | grep', 'node']);
  expect(params).toMatchObject({ vm: 'web', user: 'root', argv });
  const labelled = await run(['vm', 'ssh', '-u', 'me', '-l', 'app=web', 'ps aux | grep node']);
  expect(labelled.params).toMatchObject({ vm: 'web', user: 'me', argv });
  expect((await run(['vm', 'ssh', 'web', 'ls', '-la'])).params).toMatchObject({
    vm: 'web',
    argv: ['/bin/sh', '-c', 'ls -la'],
  });
  await expect(run(['vm', 'ssh', 'web', '-u', 'me', '--', 'id'])).rejects.toMatchObject({
    hint: 'Put options before the VM: banger vm ssh -u me web -- id',
  });
  expect((await run(['vm', 'ssh', 'web'])).params).not.toHaveProperty('argv');
});

test('create turns labels, ports and limits into the words of the contract', async () => {
  const words = '-l app=web -l empty -p 80 -p 8080:80 -p 0.0.0.0:53:53/udp --ttl 2h --idle-stop off';
  const { params } = await run(['vm', 'create', ...words.split(' ')], created);
  expect(params).toMatchObject({
    labels: { app: 'web', empty: '' },
    publish: [
      { protocol: 'tcp', bind: '127.0.0.1', hostPort: undefined, guestPort: 80 },
      { protocol: 'tcp', bind: '127.0.0.1', hostPort: 8080, guestPort: 80 },
      { protocol: 'udp', bind: '0.0.0.0', hostPort: 53, guestPort: 53 },
    ],
    ttlMs: 7_200_000,
    idleStopMs: null,
  });
});

test('ports are added, removed and listed by the words of create', async () => {
  const ports = [
    { protocol: 'tcp', bind: '127.0.0.1', hostPort: 8080, guestPort: 80 },
    { protocol: 'udp', bind: '0.0.0.0', hostPort: 4711, guestPort: 53 },
    { protocol: 'tcp', bind: '127.0.0.1', hostPort: 9, guestPort: 9 },
  ];
  const added = await run(['vm', 'port', 'add', 'web', '8080:80', '0.0.0.0::53/udp', '/s:/t'], { ports });
  expect(added.calls).toEqual([
    [
      'vm.set',
      {
        vm: 'web',
        publish: [
          { protocol: 'tcp', bind: '127.0.0.1', hostPort: 8080, guestPort: 80 },
          { protocol: 'udp', bind: '0.0.0.0', hostPort: undefined, guestPort: 53 },
        ],
        publishSockets: [{ hostPath: '/s', guestPath: '/t' }],
      },
    ],
  ]);
  expect(added.printed).toEqual(['127.0.0.1:8080->80/tcp\n0.0.0.0:4711->53/udp\n/s->/t']);

  const { params } = await run(['vm', 'port', 'rm', 'web', '8080', '53/udp', '127.0.0.1:8443:443', '/s:/t'], {
    ports,
  });
  expect(params).toEqual({
    vm: 'web',
    unpublish: [
      { protocol: 'tcp', hostPort: 8080 },
      { protocol: 'udp', hostPort: 53 },
      { protocol: 'tcp', hostPort: 8443, bind: '127.0.0.1', guestPort: 443 },
    ],
    unpublishSockets: ['/s'],
  });
  expect((await run(['vm', 'port', 'list', 'web'], { name: 'web', ports, sockets: [] })).calls).toEqual([
    ['vm.show', { vm: 'web' }],
  ]);
  await expect(run(['vm', 'port', 'add', 'web', '99999'])).rejects.toThrow('1 to 65535');
  await expect(run(['vm', 'port', 'add', 'web'])).rejects.toMatchObject({
    code: 'commander.missingArgument',
  });
});

test('what a VM may reach is said at create, and changed by rules of one form', async () => {
  const asked = await run(
    ['vm', 'create', '--egress', 'Git.Example.org, 10.0.0.0/8', '--egress', 'a.org:443'],
    created,
  );
  expect(asked.params).toMatchObject({ egress: ['git.example.org', '10.0.0.0/8', 'a.org:443'] });
  const done = { name: 'web', network: 'user', egress: ['a.org', 'b.org'] };
  const added = await run(['vm', 'egress', 'set', '--add', 'web', 'a.org', 'B.org'], done);
  expect(added.params).toEqual({ vm: 'web', egress: ['a.org', 'b.org'], egressChange: 'add', force: false });
  expect(added.printed).toEqual(['web: a.org, b.org']);
  await expect(run(['vm', 'egress', 'set', '--add', '--remove', 'web', 'a.org'])).rejects.toThrow(
    'contradict',
  );
  await expect(run(['vm', 'egress', 'set', 'web', '10.1.2.3/8'])).rejects.toThrow('write "10.0.0.0/8"');
  await expect(run(['vm', 'egress', 'set', 'web', 'all,a.org'])).rejects.toThrow('said alone');
});

test('files of the host are named from where the user is, and a VM can do without those of the configuration', async () => {
  const words = ['--file-sync', 'conf:~/.conf', '--file-sync', '~/.npmrc', '--no-config-files'];
  const { params } = await run(['vm', 'create', ...words], created);
  expect(params).toMatchObject({
    fileSync: [
      { host: '/home/me/tree/conf', guest: '/root/.conf' },
      { host: '~/.npmrc', guest: '/root/.npmrc' },
    ],
    takesConfigFiles: false,
  });
  expect((await run(['vm', 'create'], created)).params).toMatchObject({
    fileSync: [],
    takesConfigFiles: true,
  });
  await expect(run(['vm', 'create', '--file-sync', '/etc/hosts'])).rejects.toThrow('Say where it goes');
  const set = await run(['vm', 'set', 'web', '--file-sync', '~/.npmrc', '--remove-file-sync', '~/.old']);
  expect(set.params).toMatchObject({
    fileSync: [{ host: '~/.npmrc', guest: '/root/.npmrc' }],
    removeFileSync: ['/root/.old'],
  });
  const answer = {
    name: 'web',
    applied: [],
    atNextStart: ['memoryMib', 'fileSync'],
    pending: { memoryMib: 512 },
  };
  expect(setText(answer as unknown as Parameters<typeof setText>[0])).toBe(
    'web: at the next start: 512 MiB memory, file-sync',
  );
});

const created = { name: 'web', state: 'running', cpus: 1, memoryMib: 1, diskBytes: 1, stages: [] };
const ran = { code: 0, vm: 'swift-otter', removed: true, stages: [] };

test('create turns flags into one call, with sizes in the units of the contract', async () => {
  const words = [
    'vm',
    'create',
    '--name',
    'web',
    '--cpus',
    '2',
    '--memory',
    '2G',
    '--disk',
    '20G',
    '--no-start',
  ];
  const { params } = await run(words, created);
  expect(params).toMatchObject({
    name: 'web',
    cpus: 2,
    memoryMib: 2048,
    diskBytes: 20 * 1024 ** 3,
    start: false,
  });
});

test.each([
  [['vm', 'create', '--name', 'Bad_Name']],
  [['vm', 'create', '--cpus', '0']],
  [['vm', 'create', '--memory', 'lots']],
  [['vm', 'create', '--no-such-flag']],
  [['vm', 'create', '-p', '70000:80']],
  [['vm', 'create', '-p', 'localhost:80:80']],
  [['vm', 'create', '-p', '80/sctp']],
  [['vm', 'create', '--label', '=x']],
  [['vm', 'create', '--ttl', '10ms']],
  [['vm', 'list', '--filter', 'colour=red']],
  [['vm', 'strat', 'web']],
  [['vm', 'stop']],
])('%j is a usage error', async (words) => {
  await expect(run(words)).rejects.toMatchObject({ code: expect.stringContaining('commander.') as string });
});

test.each([
  [['.', '--', 'npm', 'test'], { path: '/home/me/tree', argv: ['npm', 'test'], remove: true }],
  [['--', 'ls', '--json', '-l'], { path: undefined, argv: ['ls', '--json', '-l'], remove: true }],
  [['.'], { path: '/home/me/tree', argv: undefined, remove: false }],
  [[], { path: undefined, argv: undefined, remove: false }],
  [['--rm'], { remove: true }],
  [['--keep', '--', 'make'], { remove: false }],
  [['--name', 'web', '--', 'make'], { remove: false, name: 'web' }],
  [['--name', 'web', '--rm', '--', 'make'], { remove: true }],
])('run %j asks for %j', async (words, expected) => {
  expect((await run(['vm', 'run', ...words], ran)).params).toMatchObject(expected);
});

test('a command without -- is refused with the line that works', async () => {
  await expect(run(['vm', 'run', '.', 'make', 'all'])).rejects.toMatchObject({
    code: 'invalid_argument',
    hint: expect.stringContaining('banger vm run . -- make all') as string,
  });
});

test('--detach runs nothing, and prints the name of the VM that stays', async () => {
  const { params, printed } = await run(['vm', 'run', '-d', '.', '--name', 'web'], {
    ...ran,
    removed: false,
  });
  expect(params).toMatchObject({ detach: true, remove: false, argv: undefined, path: '/home/me/tree' });
  expect(printed).toEqual(['swift-otter']);
});

test.each([
  [['-d', '--rm'], 'nothing runs that could end'],
  [['-d', '.', '--', 'make'], 'a command was given'],
  [['-d', '--entrypoint'], '--entrypoint was given'],
  [['-d', '-u', 'app'], '--user has no meaning'],
  [['-d', '.', '-w', 'sub'], '--workdir has no meaning'],
  [['-w', 'sub', '--', 'ls'], 'no working tree that it could be in'],
])('run %j is refused before anything is asked of the engine', async (words, why) => {
  const { calls, error } = await run(['vm', 'run', ...words], ran).then(
    (done) => ({ calls: done.calls, error: undefined }),
    (error: unknown) => ({ calls: [], error }),
  );
  expect(error).toMatchObject({ code: 'invalid_argument', message: expect.stringContaining(why) as string });
  expect(calls).toEqual([]);
});

test('--rm and --keep together are refused', async () => {
  await expect(run(['vm', 'run', '--rm', '--keep'])).rejects.toThrow('contradict');
});

test('exec passes everything after the VM on as it is, with or without --', async () => {
  expect((await run(['vm', 'exec', 'web', '--', 'ls', '-l'])).params).toMatchObject({
    vm: 'web',
    argv: ['ls', '-l'],
  });
  expect((await run(['vm', 'exec', 'web', 'ls', '--help'])).params).toMatchObject({ argv: ['ls', '--help'] });
  expect((await run(['vm', 'exec', '-it', 'web', 'ls', '-t'])).params).toMatchObject({ argv: ['ls', '-t'] });
});

test('an option of exec after the VM is told where it belongs, and is no command', async () => {
  await expect(run(['vm', 'exec', 'web', '-w', '/srv', '--', 'ls', '-l'])).rejects.toMatchObject({
    message: '"-w" comes after the VM, where the command begins',
    hint: 'Put options before the VM: banger vm exec -w /srv web -- ls -l',
  });
  await expect(run(['vm', 'exec', 'web', '-it', 'sh'])).rejects.toThrow('comes after the VM');
  expect((await run(['vm', 'exec', 'web', '--', '-x'])).params).toMatchObject({ argv: ['-x'] });
});

test('several VMs are stopped, and one that had to be killed is told', async () => {
  const { calls, talk } = await run(['vm', 'stop', 'a', 'b', '-t', '5'], { name: 'a', flushed: false });
  expect(calls.map(([, params]) => params)).toEqual([
    { vm: 'a', timeoutMs: 5000 },
    { vm: 'b', timeoutMs: 5000 },
  ]);
  expect(talk[0]).toContain('is lost');
});

test.each([
  [{ code: 7 }, 7],
  [{ code: 0 }, 0],
  [{ signal: 'TERM' }, 143],
  [{ signal: 'KILL' }, 137],
  [{ signal: 'INT' }, 130],
])('a program that ended with %j is exit code %i', (exit, code) => {
  expect(exitCodeOf(exit, { SIGTERM: 15, SIGKILL: 9, SIGINT: 2 })).toBe(code);
});

test.each([
  [0, 'just now'],
  [61, '1 minute ago'],
  [7200, '2 hours ago'],
  [90_000, '1 day ago'],
])('%i seconds are "%s"', (seconds, words) => {
  const now = new Date('2026-01-02T00:00:00Z');
  expect(ago(new Date(now.getTime() - seconds * 1000).toISOString(), now)).toBe(words);
});
