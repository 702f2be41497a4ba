import { lstatSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { parseChanges } from '../../../src/engine/workspace/guest-tree/changes-format.ts';
import { ChangesReader } from '../../../src/engine/workspace/guest-tree/changes-reader.ts';
import {
  parseGitConfig,
  withoutCredentials,
  withoutFilters,
} from '../../../src/engine/workspace/host-tree/git-config.ts';
import { defaultGuestPath, parseGuestPath } from '../../../src/engine/workspace/guest-path.ts';
import { planShallowEnds } from '../../../src/engine/workspace/host-tree/history.ts';
import { displayPath, pathText } from '../../../src/engine/workspace/host-tree/raw-path.ts';
import { tarStream } from '../../../src/engine/workspace/sending/tar-stream.ts';
import { stampOf } from '../../../src/engine/workspace/host-tree/tree-files.ts';
import { makeTempDirectory } from '../../support/git-repo.ts';

test.each([
  ['https://user:secret@example.com/a.git', 'https://example.com/a.git'],
  ['https://token@example.com:8443/a.git?private_token=x#y', 'https://example.com:8443/a.git'],
  ['https://user:p@ss@example.com/a', 'https://example.com/a'],
  ['ssh://git:secret@example.com:22/a', 'ssh://git@example.com:22/a'],
  ['git@example.com:team/a.git', 'git@example.com:team/a.git'],
  ['/srv/git/a.git', '/srv/git/a.git'],
  ['../a.git', '../a.git'],
])('of the remote %s, %s travels', (url, expected) => {
  expect(withoutCredentials(url)).toBe(expected);
});

test('every filter driver is switched off, whatever its name', () => {
  const config = parseGitConfig(
    Buffer.from(
      'filter.a=b\nc.clean\ncat\0filter.lfs.process\ngit-lfs\0filter.lfs.required\ntrue\0core.bare\nfalse\0',
    ),
  );
  expect(withoutFilters(config).filter(([name]) => name.endsWith('.clean'))).toEqual([
    ['filter.lfs.clean', ''],
  ]);
  const named = parseGitConfig(Buffer.from('filter.a=b.clean\ncat\0'));
  expect(withoutFilters(named)).toContainEqual(['filter.a=b.clean', '']);
});

const oid = 'a'.repeat(40);
const change = (path: string, status = 'M', mode = '100644') =>
  `:${mode} ${mode} ${oid} ${oid} ${status}\t${path}\n`;

test('a list of changes is read with its line counts', () => {
  const list = `${change('a')}${change('"b\\nc\\303\\251"')}1\t2\ta\n-\t-\t"b\\nc\\303\\251"\n`;
  expect(parseChanges(Buffer.from(list))).toEqual({
    files: [
      { path: 'a', status: 'modified', added: 1, removed: 2 },
      { path: 'b\nc\u00e9', status: 'modified' },
    ],
    paths: ['a', 'b\nc\u00c3\u00a9'].map((path) => ({
      path,
      before: { mode: '100644', oid },
      after: { mode: '100644', oid },
    })),
    nested: [],
  });
});

test.each([
  ['a path above the tree', change('../../.ssh/authorized_keys')],
  ['an absolute path', change('/etc/passwd')],
  ['a path into the repository', change('sub/.GIT/hooks/pre-commit')],
  ['a path into the repository as Windows spells it', change('sub/git~1/hooks')],
  ['a path into the repository with what Windows drops', change('.git . ./config')],
  ['a path into the repository with what macOS drops', change('".g\\342\\200\\214it/config"')],
  ['a quoted path into the repository', change('"\\056git/config"')],
  ['a zero byte in a path', change('"a\\000b"')],
])('a guest that answers with %s is refused, with that path', (_, output) => {
  expect(() => parseChanges(Buffer.from(output))).toThrow(
    /^The VM says that it changed ".+", a path that no working tree has/s,
  );
});

test.each([
  ['quotes that do not end', change('"a')],
  ['an empty path', change('')],
  ['an unknown status', change('a', 'R100')],
  ['a mode that git does not have', change('a', 'M', '100666')],
  ['a directory as a file', change('a', 'M', '040000')],
  ['a path twice', change('a') + change('a')],
  ['counts of a file that is not listed', `${change('a')}1\t1\tb\n`],
  ['something else', 'hello\n'],
  ['a list cut short', change('a').slice(0, -1)],
])('a guest that answers with %s is not believed', (_, output) => {
  expect(parseChanges(Buffer.from(output))).toBeUndefined();
});

/** What a reader makes of an output that comes in pieces of so many bytes. */
async function readOutput(output: string, pieceBytes: number) {
  const patch: Buffer[] = [];
  const reader = new ChangesReader(async (piece) => void patch.push(piece));
  const bytes = Buffer.from(output, 'latin1');
  for (let at = 0; at < bytes.length; at += pieceBytes) {
    await reader.push(bytes.subarray(at, at + pieceBytes));
  }
  const changes = await reader.end();
  return { changes, patch: Buffer.concat(patch).toString('latin1') };
}

const fileDiff = (name: string) =>
  `diff --git a/${name} b/${name}\nindex ${oid}..${oid} 100644\n--- a/${name}\n+++ b/${name}\n@@ -1 +1 @@\n-diff --git a/x b/x\n+index ${oid}..${oid} 160000\n`;
const nestedDiff = `diff --git a/lib b/lib\nnew file mode 160000\nindex ${oid}..${oid}\n--- /dev/null\n+++ b/lib\n@@ -0,0 +1 @@\n+Subproject commit ${oid}\n`;
const modeDiff = 'diff --git a/run b/run\nold mode 100644\nnew mode 100755\n';

test.each([1, 2, 7, 100_000])(
  'list and patch are told apart in pieces of %i bytes, and repositories are left out of the patch',
  async (pieceBytes) => {
    const list = `${change('a')}:000000 160000 ${oid} ${oid} A\tlib\n${change('run')}1\t1\ta\n1\t0\tlib\n0\t0\trun\n`;
    const { changes, patch } = await readOutput(
      `vendor/old\n.\n${list}\n${fileDiff('a')}${nestedDiff}${modeDiff}`,
      pieceBytes,
    );
    expect(changes?.files.map(({ path }) => path)).toEqual(['a', 'run']);
    expect(changes?.nested).toEqual(['lib', 'vendor/old']);
    expect(patch).toBe(`${fileDiff('a')}${modeDiff}`);
  },
);

test('a line of content without end is handed on as it comes, beside a repository that is left out', async () => {
  const list = `:000000 160000 ${oid} ${oid} A\tlib\n${change('a')}1\t0\tlib\n1\t1\ta\n`;
  let handed = 0;
  const reader = new ChangesReader(async (piece) => void (handed += piece.length));
  const begin = fileDiff('a').slice(0, -1);
  await reader.push(Buffer.from(`.\n${list}\n${begin}`, 'latin1'));
  const piece = Buffer.alloc(32 * 1024, 'diff --git ');
  for (let pushed = begin.length; pushed < 4 * 1024 * 1024; pushed += piece.length) {
    expect(pushed - handed).toBeLessThan(64);
    await reader.push(piece);
  }
  await reader.push(Buffer.from(`\n${nestedDiff}`));
  const before = handed;
  await reader.push(Buffer.alloc(32 * 1024, '+'));
  await reader.end();
  expect(handed).toBe(before);
});

test('lines about a file that never come to its content are refused', async () => {
  const list = `:000000 160000 ${oid} ${oid} A\tlib\n1\t0\tlib\n`;
  const endless = `diff --git a/${'x'.repeat(100_000)}`;
  await expect(readOutput(`.\n${list}\n${endless}`, 32_000)).rejects.toThrow('something that is not a patch');
});

test.each([
  ['nothing', ''],
  ['a patch and no list', fileDiff('a')],
])('a guest that answers with %s is not believed, and nothing of it handed on', async (_, output) => {
  expect(await readOutput(output, 50)).toEqual({ changes: undefined, patch: '' });
});

test('a guest that names a repository above the tree is refused', async () => {
  await expect(readOutput('../lib\n.\n', 50)).rejects.toThrow('"../lib", a path that no working tree has');
});

test('names are shown so that they cannot be mistaken', () => {
  expect(displayPath('plain name.txt')).toBe('plain name.txt');
  expect(displayPath(Buffer.from('größe').toString('latin1'))).toBe('größe');
  expect(displayPath('caf\u00e9')).toBe('"caf\\351"');
  expect(displayPath('a\u001b[31m')).toBe('"a\\033[31m"');
  expect(pathText('a\nb')).toBe('a\nb');
});

test('a history without merges is cut after ten commits, a short one not at all', () => {
  const line = (count: number) =>
    new Map(Array.from({ length: count }, (_, at) => [`c${at}`, at + 1 < count ? [`c${at + 1}`] : []]));
  expect(planShallowEnds(['c0'], line(14), new Set())).toEqual(['c9']);
  expect(planShallowEnds(['c0'], line(10), new Set())).toEqual([]);
  expect(planShallowEnds(['c0'], line(3), new Set(['c2']))).toEqual(['c2']);
});

test('a merge travels with all its parents or ends the history', () => {
  const parentsOf = new Map([
    ['tip', ['octopus']],
    ['octopus', Array.from({ length: 12 }, (_, at) => `p${at}`)],
  ]);
  expect(planShallowEnds(['tip'], parentsOf, new Set())).toEqual(['octopus']);
  expect(planShallowEnds(['tip'], new Map([['tip', ['a', 'b']]]), new Set())).toEqual(['a', 'b']);
});

test.each([
  ['/home/me/my project', '/root/my-project'],
  ['/home/me/.dotfiles', '/root/dotfiles'],
  ['/home/me/größe', '/root/gr-e'],
  // Programs look for files of theirs in those.
  ['/home/me/bin', '/root/bin-tree'],
  ['/home/me/.mise', '/root/mise-tree'],
  ['/', '/root/workspace'],
])('%s goes to %s', (hostPath, guestPath) => {
  expect(defaultGuestPath(hostPath)).toBe(guestPath);
});

test.each(['/', '/root', '/usr/', '/root/x/../../etc', '/proc/1/x', 'relative', '/a\nb'])(
  'a workspace cannot replace %j',
  (path) => {
    expect(() => parseGuestPath(path)).toThrow('cannot hold a workspace');
  },
);

test('a file of more than 8 GiB has its size in binary, and is read piece by piece', async () => {
  const { path: directory, remove } = makeTempDirectory();
  try {
    const file = join(directory, 'huge');
    const sizeBytes = 9 * 1024 ** 3;
    writeFileSync(file, '');
    truncateSync(file, sizeBytes);
    const stamp = stampOf(lstatSync(file, { bigint: true }));
    const content = { kind: 'file', sizeBytes, source: Buffer.from(file), stamp } as const;
    const stream = tarStream([{ path: 'huge', mode: 0o644, mtimeSeconds: 0, content }]);
    const { value } = await stream.next();
    await stream.return(undefined);
    expect(value?.readBigUInt64BE(128)).toBe(BigInt(sizeBytes));
    expect(value?.[124]).toBe(0x80);
    expect(value?.length).toBeLessThan(1024 * 1024);
  } finally {
    remove();
  }
});
