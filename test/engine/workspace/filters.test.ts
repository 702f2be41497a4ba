import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { createFixture, type Fixture } from './workspace-fixture.ts';

/** Many runs of git, each a process. */
vi.setConfig({ testTimeout: 300_000 });

let fixture: Fixture;
beforeEach(() => {
  fixture = createFixture();
});
afterEach(() => fixture.remove());

/** A filter as that of LFS: git has pointers, the working tree has content. Each run leaves a line in a file. */
function installLfs(): { readonly ran: string; readonly pointerOf: (content: string) => string } {
  const { directory, repo } = fixture;
  const store = join(directory, 'store');
  const ran = join(directory, 'ran');
  mkdirSync(store);
  const script = join(directory, 'lfs.sh');
  writeFileSync(
    script,
    `#!/bin/sh
echo "$1" >>${ran}
content=$(mktemp -p ${store}); cat >"$content"
if [ "$1" = clean ] && grep -aq '^version https://git-lfs' "$content"; then
  cat "$content"; rm "$content"
elif [ "$1" = clean ]; then
  oid=$(sha256sum <"$content" | cut -c1-64)
  mv "$content" ${store}/$oid
  printf 'version https://git-lfs.github.com/spec/v1\\noid sha256:%s\\nsize %s\\n' $oid $(stat -c %s ${store}/$oid)
else
  cat ${store}/$(sed -n 's/^oid sha256://p' "$content"); rm "$content"
fi
`,
    { mode: 0o755 },
  );
  repo.git('config', 'filter.lfs.clean', `${script} clean`);
  repo.git('config', 'filter.lfs.smudge', `${script} smudge`);
  repo.git('config', 'filter.lfs.required', 'true');
  repo.write('.gitattributes', '*.bin filter=lfs diff=lfs merge=lfs -text\n');
  const pointerOf = (content: string): string => {
    const oid = createHash('sha256').update(content).digest('hex');
    return `version https://git-lfs.github.com/spec/v1\noid sha256:${oid}\nsize ${content.length}\n`;
  };
  return { ran, pointerOf };
}

const linesOf = (path: string): number =>
  existsSync(path) ? readFileSync(path, 'utf8').split('\n').length : 0;

test('files behind an active filter travel as they lie there, without it, and changes of them come back', async () => {
  const { repo, copy } = fixture;
  const { ran, pointerOf } = installLfs();
  for (const name of ['a.bin', 'dirty.bin', 'plain']) repo.write(name, `${name}\n`);
  // Git reads again what is not older than its index, and would need the filter for that.
  const longAgo = new Date(Date.now() - 60_000);
  utimesSync(join(repo.path, 'a.bin'), longAgo, longAgo);
  repo.commit('first');
  expect(repo.git('show', 'HEAD:a.bin')).toBe(pointerOf('a.bin\n'));
  repo.write('dirty.bin', 'dirty on the host\n');
  repo.git('status');
  const before = linesOf(ran);

  const { warnings } = await fixture.prepare();
  expect(warnings).toEqual([
    '"a.bin", "dirty.bin" go through a git filter of this host, such as LFS: sent as in the working tree, and committed in the guest without it',
  ]);
  expect(readFileSync(join(copy.path, 'a.bin'), 'utf8')).toBe('a.bin\n');
  expect(readFileSync(join(copy.path, 'dirty.bin'), 'utf8')).toBe('dirty on the host\n');
  // Of what is as it was committed, git says so in the guest, too, which has no such filter.
  const status = ['status', '--porcelain=v2', '-z', '--untracked-files=no'];
  expect(copy.git(...status)).toBe(repo.git(...status));
  expect(copy.git('show', ':a.bin')).toBe(pointerOf('a.bin\n'));
  expect((await fixture.export()).files).toEqual([]);

  copy.write('a.bin', 'guest\n');
  copy.write('plain', 'guest\n');
  const exported = await fixture.export();
  expect(exported.files.map(({ path, added, removed }) => [path, added, removed])).toEqual([
    ['a.bin', 1, 1],
    ['plain', 1, 1],
  ]);
  expect(exported.warnings).toEqual([
    '"a.bin": a git filter of this host, such as LFS, hides what the patch changes; apply it with: banger workspace apply',
  ]);
  const after = linesOf(ran);
  expect((await fixture.apply()).files.map(({ path, outcome }) => `${outcome} ${path}`)).toEqual([
    'applied a.bin',
    'applied plain',
  ]);
  expect(readFileSync(join(repo.path, 'a.bin'), 'utf8')).toBe('guest\n');
  expect(linesOf(ran)).toBe(after);
  // What the user commits then is a pointer again.
  repo.commit('second');
  expect(repo.git('show', 'HEAD:a.bin')).toBe(pointerOf('guest\n'));
  expect(before).toBeGreaterThan(0);
});

test('what goes through a filter is as the host has it in the guest, also when it is sent again', async () => {
  const { repo, copy } = fixture;
  const { pointerOf } = installLfs();
  for (const name of ['a.bin', 'dirty.bin', 'plain']) repo.write(name, `${name}\n`);
  const old = (name: string, seconds: number): void => {
    const time = new Date(Date.now() - seconds * 1000);
    utimesSync(join(repo.path, name), time, time);
  };
  for (const name of ['a.bin', 'dirty.bin', 'plain']) old(name, 120);
  repo.commit('first');
  await fixture.prepare();
  for (const name of ['a.bin', 'plain']) repo.write(name, `${name} again\n`);
  for (const name of ['a.bin', 'plain']) old(name, 60);
  repo.commit('second');
  repo.write('dirty.bin', 'dirty on the host\n');
  await fixture.prepare();
  const status = ['status', '--porcelain=v2', '-z', '--untracked-files=no'];
  expect(copy.git(...status)).toBe(repo.git(...status));
  expect(copy.git('show', ':a.bin')).toBe(pointerOf('a.bin again\n'));
  expect(readFileSync(join(copy.path, 'a.bin'), 'utf8')).toBe('a.bin again\n');
  expect((await fixture.export()).files).toEqual([]);
});

test('what the guest changes at once is seen beside a file behind a filter that was written last', async () => {
  const { repo, copy } = fixture;
  installLfs();
  for (const name of ['a.bin', 'plain']) repo.write(name, `${name}\n`);
  repo.commit('first');
  // As if all of it happened in one second.
  const second = new Date((Math.floor(Date.now() / 1000) + 3600) * 1000);
  for (const name of ['a.bin', 'plain']) utimesSync(join(repo.path, name), second, second);
  repo.git('status');
  await fixture.prepare();
  copy.write('plain', 'guest\n');
  utimesSync(join(copy.path, 'plain'), second, second);
  expect((await fixture.export()).files.map(({ path }) => path)).toEqual(['plain']);
});

test('what goes through a filter and was written in the second of the index, as by a clone, is as git left it', async () => {
  const { repo, copy } = fixture;
  const { pointerOf } = installLfs();
  for (const name of ['a.bin', 'dirty.bin']) repo.write(name, `${name}\n`);
  repo.commit('first');
  repo.write('dirty.bin', 'changed\n');
  await fixture.prepare();
  expect(copy.git('status', '--porcelain')).toBe(' M dirty.bin\n');
  expect(copy.git('show', ':a.bin')).toBe(pointerOf('a.bin\n'));
  expect((await fixture.export()).files).toEqual([]);
});

test('on a branch that begins elsewhere, what goes through a filter is as git has stored it where it differs, and named', async () => {
  const { repo, copy } = fixture;
  const { ran, pointerOf } = installLfs();
  repo.write('same.bin', 'same\n');
  repo.write('other.bin', 'one\n');
  repo.commit('first');
  repo.git('tag', 'v1');
  repo.write('other.bin', 'two\n');
  repo.commit('second');
  // Written in the second of the index: nothing is changed.
  const now = new Date();
  const paths = ['same.bin', 'other.bin'];
  for (const path of paths) utimesSync(join(repo.path, path), now, now);
  repo.git('rm', '-q', '--cached', ...paths);
  repo.git('add', ...paths);
  utimesSync(join(repo.path, '.git/index'), now, now);
  const before = linesOf(ran);
  const { warnings } = await fixture.prepare({ guestBranch: { name: 'fix', from: 'v1' } });
  expect(linesOf(ran)).toBe(before);
  expect(readFileSync(join(copy.path, 'same.bin'), 'utf8')).toBe('same\n');
  expect(readFileSync(join(copy.path, 'other.bin'), 'utf8')).toBe(pointerOf('one\n'));
  expect(warnings).toEqual([
    expect.stringMatching(/^"same.bin" goes through .*: sent as in the working tree/) as string,
    expect.stringMatching(/^"other.bin" goes through .*: sent as git has stored it, .* a pointer/) as string,
  ]);
  expect(copy.git('status', '--porcelain')).toBe('');
  // What is changed is that still.
  repo.write('other.bin', 'three\n');
  await expect(fixture.prepare({ guestBranch: { name: 'fix2', from: 'v1' } })).rejects.toMatchObject({
    message: expect.stringContaining('what you changed is different there: "other.bin"') as string,
  });
});

test('a pointer that lies in the tree in the place of its content travels as it is', async () => {
  const { repo, copy } = fixture;
  const { pointerOf } = installLfs();
  const pointers = { 'a.bin': pointerOf('never fetched\n'), 'deep/b.bin': pointerOf('content\n') };
  repo.write('deep/b.bin', 'content\n');
  repo.write('a.bin', pointers['a.bin']);
  repo.commit('first');
  // As after a checkout with GIT_LFS_SKIP_SMUDGE=1.
  repo.write('deep/b.bin', pointers['deep/b.bin']);
  repo.git('add', '--renormalize', '.');
  const status = ['status', '--porcelain=v2', '-z', '--untracked-files=no'];
  expect(repo.git(...status)).toBe('');

  const again = new Date();
  for (const isAgain of [false, true]) {
    if (isAgain) utimesSync(join(repo.path, 'a.bin'), again, again);
    await fixture.prepare();
    expect(copy.git(...status)).toBe('');
    for (const [name, pointer] of Object.entries(pointers)) {
      expect(readFileSync(join(copy.path, name), 'utf8')).toBe(pointer);
      expect(copy.git('show', `:${name}`)).toBe(pointer);
    }
    expect((await fixture.export()).files).toEqual([]);
  }
});

test('a filter that is required and not to be had stops neither way', async () => {
  const { repo, copy } = fixture;
  repo.write('a.bin', 'content\n');
  repo.commit('first');
  repo.write('.gitattributes', '*.bin filter=gone\n');
  for (const key of ['clean', 'smudge', 'process'])
    repo.git('config', `filter.gone.${key}`, '/nonexistent/filter');
  repo.git('config', 'filter.gone.required', 'true');
  const { warnings } = await fixture.prepare();
  expect(warnings).toEqual([expect.stringContaining('"a.bin" goes through a git filter of this host')]);
  copy.write('a.bin', 'guest\n');
  copy.git('commit', '-qam', 'without the filter');
  await fixture.apply();
  expect(readFileSync(join(repo.path, 'a.bin'), 'utf8')).toBe('guest\n');
});

test.each(['true', 'input'])(
  'with core.autocrlf=%s and encodings, what comes back is what the guest wrote, to the byte',
  async (value) => {
    const { repo, copy } = fixture;
    repo.git('config', 'core.autocrlf', value);
    repo.write(
      '.gitattributes',
      '*.u16 text working-tree-encoding=UTF-16LE\n*.latin text working-tree-encoding=ISO-8859-1 eol=crlf\n*.id ident\n*.lf eol=lf\n',
    );
    const eol = value === 'true' ? '\r\n' : '\n';
    const files: Record<string, (text: string) => Buffer> = {
      'a.txt': (text) => Buffer.from(`one${eol}${text}${eol}`),
      'b.u16': (text) => Buffer.from(`one${eol}${text}${eol}`, 'utf16le'),
      'c.latin': (text) => Buffer.from(`größe\r\n${text}\r\n`, 'latin1'),
      'd.lf': (text) => Buffer.from(`one\n${text}\n`),
    };
    for (const [name, content] of Object.entries(files)) repo.write(name, content('two'));
    repo.write('e.id', '$Id$\n');
    repo.commit('first');
    await fixture.prepare();
    for (const [name, content] of Object.entries(files)) copy.write(name, content('three'));
    const { files: applied } = await fixture.apply();
    expect(applied.map(({ path, outcome, added }) => [path, outcome, added])).toEqual([
      ['a.txt', 'applied', 1],
      ['b.u16', 'applied', 1],
      ['c.latin', 'applied', 1],
      ['d.lf', 'applied', 1],
    ]);
    for (const [name, content] of Object.entries(files))
      expect(readFileSync(join(repo.path, name)).equals(content('three')), name).toBe(true);
  },
);
