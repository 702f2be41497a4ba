import { execFileSync } from 'node:child_process';
import { mkdtempSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { exportWorkspaceRoute } from '../../../src/engine/workspace/export-workspace.ts';
import { readChanges, type GuestWorkspace } from '../../../src/engine/workspace/guest-tree/guest-changes.ts';
import type { exportFormats } from '../../../src/engine/rpc/workspace-methods.ts';
import { createFakeGuest } from '../../support/fake-guest.ts';
import { createFixture, type Fixture } from './workspace-fixture.ts';

/** Many runs of git, each a process. */
vi.setConfig({ testTimeout: 300_000 });

let fixture: Fixture;
beforeEach(async () => {
  fixture = createFixture();
  fixture.repo.write('edited', 'edited\n');
  fixture.repo.commit('first');
  await fixture.prepare();
  fixture.copy.write('edited', 'guest\n');
  fixture.copy.git('commit', '-qam', 'in the guest');
});
afterEach(() => fixture.remove());

/** A guest whose git is a script: `$real` is the true one, `$*` what is asked of it. */
function lyingGuest(script: string) {
  const programs = mkdtempSync(join(fixture.directory, 'programs-'));
  const git = execFileSync('sh', ['-c', 'command -v git'], { encoding: 'utf8' }).trim();
  writeFileSync(join(programs, 'git'), `#!/bin/sh\nreal=${git}\n${script}\nexec $real "$@"\n`, {
    mode: 0o755,
  });
  return createFakeGuest({ env: { PATH: `${programs}:${process.env['PATH']}` } }).guest;
}

/** Exports as clients ask for it; returns what is sent before it fails, and how it fails. */
async function exportFrom(script: string, format: (typeof exportFormats)[number]) {
  const guest = lyingGuest(script);
  const context = { ...fixture.context, guest: async () => guest, events: { publish: () => undefined } };
  const pieces: Buffer[] = [];
  const stream = {
    send: async (_: unknown, piece: Buffer) => void pieces.push(piece),
    onFrame: () => undefined,
  };
  const error = await exportWorkspaceRoute(
    context as unknown as Parameters<typeof exportWorkspaceRoute>[0],
    { path: fixture.repo.path, format },
    { operation: fixture.operation, stream: stream as never },
  ).then(
    () => undefined,
    (reason: unknown) => reason as { code: string; message: string; hint?: string },
  );
  return { error, sent: Buffer.concat(pieces).toString() };
}

const oid = 'a'.repeat(40);
const entry = `:100644 100644 ${oid} ${oid} M\\tedited\\n1\\t1\\tedited\\n`;

test('of a guest that answers half, nonsense or without end nothing is handed on', async () => {
  const answers = [
    ['half a list', 'patch', `*diff-index*) printf '${entry}' | head -c 60; exit 0`, 'not a list of changes'],
    [
      'dies',
      'patch',
      `*diff-index*) printf '${entry}\\ndiff --git a/edited b/edited\\n'; kill -9 $$`,
      'git cannot read',
    ],
    ['half a patch', 'patch', `*diff-index*) $real "$@" | head -c 150; exit 3`, 'git cannot read'],
    ['no end', 'list', `*diff-index*) yes '${entry.split('\\n')[0]}'`, 'more changes than can be taken'],
    ['half the mails', 'commits', '*format-patch*) $real "$@" | head -c 99; kill -9 $$', 'git cannot read'],
    ['nonsense for commits', 'commits', '*" log "*) echo nonsense; exit 0', 'git cannot read'],
    ['an option for an oid', 'commits', `*" rev-parse "*HEAD*) echo --output=evil; exit 0`, undefined],
  ] as const;
  for (const [name, format, answer, words] of answers) {
    const { error, sent } = await exportFrom(`case "$*" in ${answer};; esac`, format);
    expect(error?.message, name).toEqual(words && expect.stringContaining(words));
    expect(sent, name).not.toMatch(/diff --git|^From /m);
  }
  expect(readdirSync(fixture.guestPath)).not.toContain('evil');
});

test('a patch without end is cut off, and what the guest prints to complain is bounded', async () => {
  const guest = lyingGuest(
    `case "$*" in *diff-index*) yes complaint | head -c 1000000 >&2; printf '${entry}\\n'; yes '+line';; esac`,
  );
  const workspace: GuestWorkspace = {
    guest,
    ensureGit: async () => 'git',
    guestPath: fixture.guestPath,
    baseTree: fixture.repo.git('rev-parse', 'HEAD^{tree}').trim(),
    vmName: 'web',
    signal: fixture.operation.signal,
  };
  let bytes = 0;
  const onPatch = async (piece: Buffer): Promise<void> => void (bytes += piece.length);
  await expect(readChanges(workspace, { onPatch, maxPatchBytes: 5_000_000 })).rejects.toThrow(
    'a patch of more than',
  );
  expect(bytes).toBeLessThan(6_000_000);
});

test('counts that are not true are shown by export, and are not by apply, which counts itself', async () => {
  const { sent } = await exportFrom(
    `case "$*" in *diff-index*) $real "$@" | sed 's/^1\\t1\\tedited$/0\\t0\\tedited/'; exit;; esac`,
    'patch',
  );
  const head = JSON.parse(sent.split('\n')[0]!) as { files: unknown };
  expect(head.files).toEqual([{ path: 'edited', status: 'modified', added: 0, removed: 0 }]);
  expect((await fixture.apply({ dryRun: true })).files).toMatchObject([
    { path: 'edited', added: 1, removed: 1 },
  ]);
});

test('a patch of other files than those that are listed is not handed on', async () => {
  const patch = (path: string): string => `--- a/${path}\\n+++ b/${path}\\n@@ -1 +1 @@\\n-edited\\n+evil\\n`;
  const own = `diff --git a/edited b/edited\\n${patch('edited')}`;
  const answers = [
    ['another', `diff --git a/other b/other\\n${patch('other')}`, 'as "other"; nothing of it is taken'],
    // As git takes it, too.
    ['one more, in the old way', `${own}${patch('other')}`, 'as "other"'],
    ['none', '', 'as "edited"'],
    ['nonsense', 'nonsense\\n', 'something that is not a patch'],
  ] as const;
  for (const [name, text, words] of answers) {
    const script = `case "$*" in *diff-index*) printf '${entry}\\n${text}'; exit;; esac`;
    const { error, sent } = await exportFrom(script, 'patch');
    expect(error?.message, name).toEqual(expect.stringContaining(words));
    expect(sent, name).toBe('');
  }
  const { error } = await exportFrom(
    `case "$*" in *diff-index*) printf '${entry}\\n${own}'; exit;; esac`,
    'patch',
  );
  expect(error).toBeUndefined();
});

const smuggled = `diff --git a/other b/other\nnew file mode 100755\n--- /dev/null\n+++ b/other\n@@ -0,0 +1 @@\n+evil\n`;
const mailOf = (oid: string, path: string): string =>
  `From ${oid} Mon Sep 17 00:00:00 2001\nFrom: A <a@example.com>\nDate: Mon, 1 Jan 2024 00:00:00 +0000\nSubject: [PATCH] s\n\n---\n\n${smuggled.replaceAll('other', path)}-- \n2.39.0\n\n`;

test('a mail of git am that has another file, or another mail in it, than its commit is not handed on', async () => {
  const head = fixture.copy.git('rev-parse', 'HEAD').trim();
  const name = head.slice(0, 12);
  const write = (file: string, text: string): string => {
    writeFileSync(join(fixture.directory, file), text);
    return `cat ${join(fixture.directory, file)}`;
  };
  const other = `says that ${name} changes other files than its mail, as "other"`;
  const encoded = Buffer.from(smuggled)
    .toString('base64')
    .replace(/(.{70})/g, '$1\n');
  const type =
    'MIME-Version: 1.0\nContent-Type: text/plain; charset=UTF-8\nContent-Transfer-Encoding: base64';
  const header = mailOf(head, 'x').slice(0, mailOf(head, 'x').indexOf('\n\n'));
  const answers = [
    ['a file after the signature', `$real "$@"; ${write('after', smuggled)}`, other],
    ['a file instead', write('instead', mailOf(head, 'other')), other],
    ['a file that nobody can read', write('encoded', `${header}\n${type}\n\n${encoded}\n`), other],
    [
      'a file less',
      write('less', `${mailOf(head, 'x').split('diff --git')[0]}`),
      'something that is not a mail',
    ],
    [
      'another mail',
      `$real "$@"; ${write('another', mailOf('b'.repeat(40), 'other'))}`,
      'sent 2 mails for 1 commit;',
    ],
    [
      'a mail in a message',
      `$real "$@" | sed '/^---$/e ${write('inner', mailOf(head, 'edited'))}'`,
      'sent 2 mails for 1 commit;',
    ],
    [
      'the mail of another',
      write('other-mail', mailOf('b'.repeat(40), 'edited')),
      `another commit for ${name}`,
    ],
    ['none', 'true', 'sent 0 mails for 1 commit;'],
    ['nonsense', 'echo nonsense', 'the mail of another commit'],
  ] as const;
  for (const [what, answer, words] of answers) {
    const { error, sent } = await exportFrom(
      `case "$*" in *format-patch*) ${answer}; exit;; esac`,
      'commits',
    );
    expect(error?.message, what).toEqual(expect.stringContaining(words));
    expect(error?.hint, what).toContain('tampered');
    expect(sent, what).toBe('');
  }
  // Nor is one of a file outside of the tree, when the guest says so, too.
  for (const path of ['.git/hooks/post-checkout', '../outside', 'sub/.GIT/config']) {
    const script = `case "$*" in
      *format-patch*) ${write('outside', mailOf(head, path))}; exit;;
      *diff-tree*--stdin*) printf '%s\\0' ${head} '${path}'; exit;; esac`;
    const { error, sent } = await exportFrom(script, 'commits');
    expect(error?.message, path).toContain(`of "${path}", which is no path in a tree`);
    expect(sent, path).toBe('');
  }
  expect((await exportFrom('', 'commits')).error).toBeUndefined();
});

test('a patch of a few lines that is a gigabyte for git to read is handed on, and said to be not compared', async () => {
  const literal = 'GIT binary patch\\nliteral 1073741824\\nHcmV?d00001\\n\\nliteral 0\\nHcmV?d00001\\n\\n';
  const text = `diff --git a/edited b/edited\\nindex ${oid}..${oid} 100644\\n${literal}`;
  const { error, sent } = await exportFrom(
    `case "$*" in *diff-index*) printf '${entry}\\n${text}'; exit;; esac`,
    'patch',
  );
  expect(error).toBeUndefined();
  expect(sent.split('\n')[0]).toContain('too large to be compared with the list of changed files');
});
