import { spawnSync } from 'node:child_process';
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { withMise } from '../../../src/engine/setup/guest-mise.ts';

/** Programs of the guest; the words are run here. */
let bin: string;
beforeEach(() => {
  bin = mkdtempSync(join(tmpdir(), 'banger-mise-'));
});
afterEach(() => rmSync(bin, { recursive: true }));

const program = (name: string, script: string): void => {
  writeFileSync(join(bin, name), `#!/bin/sh\n${script}\n`);
  chmodSync(join(bin, name), 0o755);
};

test.each([
  ['a b', 'echo "$WHO: $*"', 0, 'it\'s\n"me" $HOME: a b\n'],
  ['x', 'exit 7', 7, ''],
])(
  'a program has what mise gives, its words and its exit code as they are (%#)',
  (word, script, code, stdout) => {
    program('tool', script);
    // As mise writes it.
    program(
      'mise',
      `printf '%s\\n' "export WHO='it'\\''s" '"me" $HOME'"'" "export PATH='${bin}:/usr/bin:/bin'"`,
    );
    const ran = spawn(withMise({ mise: join(bin, 'mise'), directory: bin }, ['tool', word]));
    expect(ran).toMatchObject({ status: code, stdout, stderr: '' });
  },
);

test.each([
  [['no-such-tool'], 127],
  [['/etc/passwd'], 126],
])('what cannot be run is told as by a shell: %j', (argv, code) => {
  program('mise', 'true');
  const ran = spawn(withMise({ mise: join(bin, 'mise'), directory: bin }, argv));
  expect(ran.status).toBe(code);
  expect(ran.stderr).toMatch(/^banger: .*(?:not found|denied)/);
});

test('a mise that refuses to say anything locks nobody out: neither a program nor a shell', () => {
  program('mise', 'echo "not trusted" >&2; exit 1');
  const words = 'not trusted\nbanger: no tools and variables of mise here, for the reason above\n';
  const ran = spawn(withMise({ mise: join(bin, 'mise'), directory: bin }, ['cat']), 'in\n');
  expect(ran).toMatchObject({ status: 0, stdout: 'in\n', stderr: words });
  const shell = spawn(
    withMise({ mise: join(bin, 'mise'), directory: bin }, undefined),
    'echo in a shell; exit 4\n',
  );
  expect(shell).toMatchObject({ status: 4, stdout: 'in a shell\n' });
  expect(shell.stderr).toContain(words);
});

function spawn(argv: readonly string[], input = '') {
  const env = { PATH: `${bin}:/usr/bin:/bin` };
  return spawnSync(argv[0]!, argv.slice(1), { env, input, encoding: 'utf8' });
}
