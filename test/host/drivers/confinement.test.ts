import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { expect, onTestFinished, test } from 'vitest';
import {
  confinementOf,
  describeConfinement,
  type ProcessFacts,
} from '../../../src/host/drivers/confinement.ts';
import {
  maxOpenFiles,
  namespaceWords,
  rootlessRefusal,
} from '../../../src/host/drivers/firecracker/namespace.ts';
import { exec } from '../../../src/host/exec.ts';
import { until } from '../../support/banger.ts';

const id = '0123456789abcdef'.repeat(2);
const status = (words: Readonly<Record<string, string>>): string =>
  Object.entries(words)
    .map(([name, value]) => `${name}:\t${value}\n`)
    .join('');

const jailed: ProcessFacts = {
  status: status({ Uid: '1879048193 1879048193', CapEff: '0000000000000000', NoNewPrivs: '1', Seccomp: '2' }),
  limits: 'Max core file size        0                    0                    bytes\n',
  cgroup: `0::/banger/banger-${id}\n`,
  namespaces: ['network', 'mount'],
  hasOwnRoot: true,
};
const bare: ProcessFacts = {
  status: status({ Uid: '0 0', CapEff: '000001ffffffffff', NoNewPrivs: '0', Seccomp: '0' }),
  limits: 'Max core file size        unlimited            unlimited            bytes\n',
  cgroup: `0::/banger/banger-${id}x\n`,
  namespaces: [],
  hasOwnRoot: false,
};

test('a jailed VMM has everything, and one that has nothing is not said to have any of it', () => {
  const everything = [
    'a jail',
    'a network namespace',
    'the loss of all capabilities',
    'no_new_privs',
    'seccomp',
    'a control group with limits',
    'a ban on core files',
  ];
  expect(confinementOf(jailed, { id, ourUid: 0 })).toEqual({
    has: ['user 1879048193', ...everything],
    lacks: [],
  });
  const [jail, network, ...others] = everything;
  expect(confinementOf(bare, { id, ourUid: 0 })).toEqual({
    has: [],
    lacks: ['a user of its own', jail, network, 'a user namespace', ...others],
  });
});

test('what is started without root has its namespaces, no rights and its limits, by what the kernel says', async ({
  skip,
}) => {
  const refusal = await rootlessRefusal(exec);
  if (refusal !== undefined) skip(refusal);
  const [program, ...words] = namespaceWords();
  const child = spawn(program, [...words, 'cat'], { stdio: ['pipe', 'ignore', 'ignore'] });
  onTestFinished(() => void child.kill('SIGKILL'));
  await once(child, 'spawn');
  await until(
    'it has become what it was to be',
    () => describeConfinement(child.pid!, id)?.has.includes('no_new_privs') === true,
  );
  expect(describeConfinement(child.pid!, id)).toEqual({
    has: [
      'a network namespace',
      'a user namespace',
      'the loss of all capabilities',
      'no_new_privs',
      'a ban on core files',
    ],
    lacks: ['a user of its own', 'a jail', 'seccomp', 'a control group with limits'],
  });
  expect(readFileSync(`/proc/${child.pid!}/limits`, 'utf8')).toMatch(/^Max open files +2048 +2048 /m);
});

test('who may have fewer descriptors than that starts a VMM with those', async ({ skip }) => {
  const refusal = await rootlessRefusal(exec);
  if (refusal !== undefined) skip(refusal);
  const limits = (hard: string): string =>
    `Max open files            1024                 ${hard}    files\n`;
  expect(['1024', '4096', 'unlimited'].map((hard) => maxOpenFiles(limits(hard)))).toEqual([1024, 2048, 2048]);
  // Root may raise its limits, unless it has lost the right to.
  const few = ['prlimit', '--nofile=1024:1024', '--'] as const;
  const weak = process.getuid!() === 0 ? ['setpriv', '--bounding-set=-sys_resource', '--'] : [];
  const start = (openFiles: number) => exec([...few, ...weak, ...namespaceWords(openFiles), 'true']);
  await expect(start(2048)).rejects.toThrow('prlimit');
  await start(maxOpenFiles(limits('1024')));
});

test('nothing is said of a process that has gone', () => {
  expect(describeConfinement(2 ** 22 + 1, id)).toBeUndefined();
});
