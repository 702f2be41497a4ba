import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';

/** Looks a group up in a file as guests do, with their own function in this host's shell; its number, or what is said. */
function findGroup(name: string, groups: string): string {
  const directory = mkdtempSync(join(tmpdir(), 'bt-session-'));
  onTestFinished(() => rmSync(directory, { recursive: true }));
  const file = join(directory, 'group');
  writeFileSync(file, groups);
  const session = readFileSync('guest/session', 'utf8');
  const functions = ['_banger_say', '_banger_find_group'].map(
    (each) => new RegExp(`^${each}\\(\\) \\{\\n[^]*?^\\}$`, 'm').exec(session)?.[0] ?? '',
  );
  const script = `${functions.join('\n').replaceAll('/etc/group', file)}
    _banger_find_group "$1" 2>&1 && echo "$_banger_gid"`;
  try {
    return execFileSync('sh', ['-c', script, 'sh', name], { encoding: 'utf8' }).trim();
  } catch (error) {
    return (error as { stdout: string }).stdout.trim();
  }
}

test.each([
  ['with a line break at the end', 'root:x:0:\napp:x:1234:me\n'],
  ['without one', 'root:x:0:\napp:x:1234:me'],
  ['without members, and without one', 'root:x:0:\napp:x:1234'],
])('the last group of a file %s is found', (_, groups) => {
  expect(findGroup('app', groups)).toBe('1234');
  expect(findGroup('root', groups)).toBe('0');
  expect(findGroup('other', groups)).toMatch(/no group "other" in the image's .*group/);
});
