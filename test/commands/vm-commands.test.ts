import { expect, test } from 'vitest';

import type { Cli } from '../../src/commands/cli.ts';
import { setText } from '../../src/commands/vm-set.ts';
import { ago } from '../../src/commands/vm-text.ts';
import { programFor } from '../support/run-program.ts';
import { runWords } from '../support/run-words.ts';

test('VMs are chosen by name or by label, and a choice is needed', async () => {
  await expect(runWords(['vm', 'stop', 'web', '--label', 'app=web'])).rejects.toThrow('not by both');
  await expect(runWords(['vm', 'pause'])).rejects.toMatchObject({ code: 'commander.missingArgument' });
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
  expect((await runWords(['vm', 'kill', '-s', written, 'web'])).params).toEqual({ vm: 'web', signal });
});

test('create turns labels, ports and limits into the words of the contract', async () => {
  const words = '-l app=web -l empty -p 80 -p 8080:80 -p 0.0.0.0:53:53/udp --ttl 2h --idle-stop off';
  const { params } = await runWords(['vm', 'create', ...words.split(' ')], created);
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
  const added = await runWords(['vm', 'port', 'add', 'web', '8080:80', '0.0.0.0::53/udp', '/s:/t'], {
    ports,
  });
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

  const { params } = await runWords(
    ['vm', 'port', 'rm', 'web', '8080', '53/udp', '127.0.0.1:8443:443', '/s:/t'],
    {
      ports,
    },
  );
  expect(params).toEqual({
    vm: 'web',
    unpublish: [
      { protocol: 'tcp', hostPort: 8080 },
      { protocol: 'udp', hostPort: 53 },
      { protocol: 'tcp', hostPort: 8443, bind: '127.0.0.1', guestPort: 443 },
    ],
    unpublishSockets: ['/s'],
  });
  expect((await runWords(['vm', 'port', 'list', 'web'], { name: 'web', ports, sockets: [] })).calls).toEqual([
    ['vm.show', { vm: 'web' }],
  ]);
  await expect(runWords(['vm', 'port', 'add', 'web', '99999'])).rejects.toThrow('1 to 65535');
  await expect(runWords(['vm', 'port', 'add', 'web'])).rejects.toMatchObject({
    code: 'commander.missingArgument',
  });
});

test('what a VM may reach is said at create, and changed by rules of one form', async () => {
  const asked = await runWords(
    ['vm', 'create', '--egress', 'Git.Example.org, 10.0.0.0/8', '--egress', 'a.org:443'],
    created,
  );
  expect(asked.params).toMatchObject({ egress: ['git.example.org', '10.0.0.0/8', 'a.org:443'] });
  const done = { name: 'web', network: 'user', egress: ['a.org', 'b.org'] };
  const added = await runWords(['vm', 'egress', 'set', '--add', 'web', 'a.org', 'B.org'], done);
  expect(added.params).toEqual({ vm: 'web', egress: ['a.org', 'b.org'], egressChange: 'add', force: false });
  expect(added.printed).toEqual(['web: a.org, b.org']);
  await expect(runWords(['vm', 'egress', 'set', '--add', '--remove', 'web', 'a.org'])).rejects.toThrow(
    'contradict',
  );
  await expect(runWords(['vm', 'egress', 'set', 'web', '10.1.2.3/8'])).rejects.toThrow('write "10.0.0.0/8"');
  await expect(runWords(['vm', 'egress', 'set', 'web', 'all,a.org'])).rejects.toThrow('said alone');
});

test('files of the host are named from where the user is, and a VM can do without those of the configuration', async () => {
  const words = ['--file-sync', 'conf:~/.conf', '--file-sync', '~/.npmrc', '--no-config-files'];
  const { params } = await runWords(['vm', 'create', ...words], created);
  expect(params).toMatchObject({
    fileSync: [
      { host: '/home/me/tree/conf', guest: '/root/.conf' },
      { host: '~/.npmrc', guest: '/root/.npmrc' },
    ],
    takesConfigFiles: false,
  });
  expect((await runWords(['vm', 'create'], created)).params).toMatchObject({
    fileSync: [],
    takesConfigFiles: true,
  });
  await expect(runWords(['vm', 'create', '--file-sync', '/etc/hosts'])).rejects.toThrow('Say where it goes');
  const set = await runWords(['vm', 'set', 'web', '--file-sync', '~/.npmrc', '--remove-file-sync', '~/.old']);
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
  const { params } = await runWords(words, created);
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
  await expect(runWords(words)).rejects.toMatchObject({
    code: expect.stringContaining('commander.') as string,
  });
});

test('several VMs are stopped, and one that had to be killed is told', async () => {
  const { calls, talk } = await runWords(['vm', 'stop', 'a', 'b', '-t', '5'], { name: 'a', flushed: false });
  expect(calls.map(([, params]) => params)).toEqual([
    { vm: 'a', timeoutMs: 5000 },
    { vm: 'b', timeoutMs: 5000 },
  ]);
  expect(talk[0]).toContain('is lost');
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
