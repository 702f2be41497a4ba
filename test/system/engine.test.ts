import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { makeDirectory, openBanger } from '../support/banger.ts';

const banger = openBanger();
afterAll(() => banger[Symbol.asyncDispose]());

test('what needs no engine starts none', async () => {
  for (const args of [
    ['--help'],
    ['version'],
    ['completion', 'bash'],
    ['engine', 'status'],
    ['vm', 'create', '--help'],
  ])
    await banger.ok(args);
  expect(await banger.json('engine', 'status')).toEqual({ running: false });
});

test('ten commands at once start one engine', async () => {
  const runs = await Promise.all(Array.from({ length: 10 }, () => banger.run(['ps', '--json'])));
  expect(runs.map(({ code, stdout, stderr }) => ({ code, stdout, stderr }))).toEqual(
    runs.map(() => ({ code: 0, stdout: '[]\n', stderr: '' })),
  );
  const log = execFileSync('grep', ['-c', 'engine starts', join(banger.home, 'state/engine.log')]);
  expect(log.toString().trim()).toBe('1');
});

test('--json prints one document on stdout, with keys that stay', async () => {
  const created = await banger.run(['vm', 'create', '--no-start', '--name', 'web', '--json']);
  const size = ['cpus', 'diskBytes', 'memoryMib'];
  const spec = [
    'egress',
    'fileSync',
    'image',
    'labels',
    'name',
    'network',
    'ports',
    'publishesAll',
    'sockets',
    ...size,
  ];
  const vmKeys = [...spec, 'createdAt', 'id', 'state', 'stoppedAt', 'workspaces'].toSorted();
  expect(Object.keys(JSON.parse(created.stdout) as object).toSorted()).toEqual(
    [...vmKeys, 'stages'].toSorted(),
  );
  for (const line of created.stderr.trim().split('\n')) expect(JSON.parse(line)).toHaveProperty('stage');

  const [listed] = await banger.json<object[]>('ps');
  expect(Object.keys(listed!).toSorted()).toEqual(vmKeys);
  expect(await banger.json('vm', 'show', 'web')).toMatchObject({
    ...listed,
    createdAt: expect.stringMatching(/^\d{4}-\d\d-\d\dT[\d:.]+Z$/),
    diskUsedBytes: expect.any(Number),
    hostPublicKey: expect.stringMatching(/^ssh-ed25519 /),
  });
  const [image] = await banger.json<object[]>('image', 'list');
  expect(image).toMatchObject({ names: ['base'], source: 'embedded', hasShell: true, usedBy: ['web'] });
});

test('without --json, progress is not on stdout', async () => {
  const { stdout, stderr } = await banger.run(['vm', 'create', '--no-start', '--name', 'db']);
  expect(stdout).toBe('db\n');
  expect(stderr).toContain('Creating disk');
  expect(await banger.ok(['ps', '-q'])).toBe('web\ndb');
});

test('the completion script for bash is one, and offers commands and names', async () => {
  const script = join(makeDirectory(banger.home, 'completion'), 'banger.bash');
  writeFileSync(script, await banger.ok(['completion', 'bash']));
  execFileSync('bash', ['-n', script]);

  const complete = (...words: string[]): string[] => {
    const line = `banger() { ${banger.argv.join(' ')} "$@"; }; . ${script}
      COMP_LINE="banger $*"; COMP_POINT=\${#COMP_LINE}; _banger; printf '%s\\n' "\${COMPREPLY[@]}"`;
    const env = { ...process.env, ...banger.env } as NodeJS.ProcessEnv;
    return execFileSync('bash', ['-c', line, 'bash', ...words], { env })
      .toString()
      .trim()
      .split('\n')
      .toSorted();
  };
  expect(complete('im')).toEqual(['image']);
  expect(complete('vm', 'sto')).toEqual(['stop']);
  expect(complete('vm', 'stop', '')).toEqual(['db', 'web']);
  expect(complete('vm', 'create', '--image', 'b')).toEqual(['base']);
  expect(complete('vm', 'create', '--mem')).toEqual(['--memory']);
});
