import { appendFileSync, existsSync, lstatSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { createFixture, type Fixture } from './workspace-fixture.ts';

/** Many runs of git, each a process. */
vi.setConfig({ testTimeout: 300_000 });

let fixture: Fixture;
beforeEach(async () => {
  fixture = createFixture();
  const { repo } = fixture;
  for (const name of ['edited', 'both']) repo.write(name, `${'line\n'.repeat(9)}end\n`);
  repo.commit('first');
  await fixture.prepare();
});
afterEach(() => fixture.remove());

const here = (name: string): string => readFileSync(join(fixture.repo.path, name), 'utf8');

test("the host's own settings neither run nor change what is written", async () => {
  const { repo, copy, directory } = fixture;
  const trap = join(directory, 'trap.sh');
  writeFileSync(trap, `#!/bin/sh\necho "$0 $*" >> ${directory}/ran\n`, { mode: 0o755 });
  mkdirSync(join(directory, 'hooks'));
  for (const hook of [
    'post-index-change',
    'post-checkout',
    'pre-commit',
    'applypatch-msg',
    'reference-transaction',
  ])
    writeFileSync(join(directory, 'hooks', hook), `#!/bin/sh\necho "$0" >> ${directory}/ran\n`, {
      mode: 0o755,
    });
  for (const [name, value] of [
    ['core.hooksPath', join(directory, 'hooks')],
    ['core.fsmonitor', trap],
    ['core.editor', trap],
    ['core.pager', trap],
    ['diff.external', trap],
    ['diff.evil.textconv', trap],
    ['diff.evil.command', trap],
    ['merge.evil.driver', `${trap} %O %A %B`],
    ['merge.default', 'evil'],
    ['filter.evil.clean', trap],
    ['filter.evil.smudge', trap],
    ['filter.evil.process', trap],
    ['filter.evil.required', 'true'],
    ['commit.gpgsign', 'true'],
    ['gpg.program', trap],
    ['apply.whitespace', 'error-all'],
    ['apply.ignoreWhitespace', 'change'],
    ['core.whitespace', 'trailing-space,indent-with-non-tab,cr-at-eol'],
    ['diff.noprefix', 'true'],
    ['diff.mnemonicPrefix', 'true'],
    ['diff.ignoreSubmodules', 'all'],
    ['diff.renames', 'copies'],
    ['diff.suppressBlankEmpty', 'true'],
    ['color.ui', 'always'],
    ['core.splitIndex', 'true'],
    ['core.untrackedCache', 'true'],
    ['checkout.workers', '4'],
    ['checkout.thresholdForParallelism', '1'],
  ] as const)
    repo.git('config', name, value);
  appendFileSync(join(repo.path, '.git/info/attributes'), '* diff=evil merge=evil filter=evil\n');
  const odd = `line  \n \tline\r\n\n${'line\n'.repeat(7)}end\t\n`;
  copy.write('edited', odd);
  repo.write('both', `mine\n${'line\n'.repeat(8)}end\n`);
  copy.write('both', `${'line\n'.repeat(9)}theirs \t\n`);
  copy.write('.git/hooks/post-checkout', `#!/bin/sh\ntouch ${directory}/ran\n`, 0o755);
  copy.git('config', 'core.fsmonitor', trap);
  const { files } = await fixture.apply();
  expect(files.map(({ path, outcome }) => `${outcome} ${path}`)).toEqual(['merged both', 'applied edited']);
  expect(here('edited')).toBe(odd);
  expect(here('both')).toBe(`mine\n${'line\n'.repeat(8)}theirs \t\n`);
  expect(existsSync(join(directory, 'ran'))).toBe(false);
});

test('files by which git here would run something later are warned about by name', async () => {
  const { repo, copy } = fixture;
  for (const [name, value] of [
    ['core.hooksPath', '.hooks'],
    ['filter.lfs.clean', 'git-lfs clean -- %f'],
    ['diff.doc.textconv', './tools/doc.sh'],
    ['include.path', '../.gitconfig'],
    ['alias.ship', '!sh tools/ship.sh --now'],
    ['diff.only.xfuncname', '^x'],
  ] as const)
    repo.git('config', name, value);
  copy.write('.gitattributes', '*.bin filter=lfs diff=doc\n*.x diff=only merge=none\n');
  for (const path of ['.hooks/pre-push', 'tools/doc.sh', 'tools/ship.sh', 'tools/other.sh', '.gitconfig'])
    copy.write(path, '\n', 0o755);
  const { warnings } = await fixture.apply();
  expect(warnings).toEqual([
    '".gitattributes" has git here run its filter "lfs" over files that the VM chose',
    '".gitattributes" has git here run its diff "doc" over files that the VM chose',
    '".gitconfig" is run or read by git here, as include.path says: look at it before you use git',
    '".hooks/pre-push" is run or read by git here, as core.hookspath says: look at it before you use git',
    '"tools/doc.sh" is run or read by git here, as diff.doc.textconv says: look at it before you use git',
    '"tools/ship.sh" is run or read by git here, as alias.ship says: look at it before you use git',
  ]);
  // It was so before: nothing new to be warned about.
  copy.write('.gitattributes', '*.bin filter=lfs diff=doc\n*.x diff=only merge=none\n*.y text\n');
  expect((await fixture.apply()).warnings).toEqual([]);
});

test('merge drivers that git has built in are obeyed as the tree here says, not as the guest does', async () => {
  const { repo, copy } = fixture;
  repo.write('.gitattributes', 'log merge=union\nlock -merge\n');
  for (const name of ['log', 'lock', 'text']) repo.write(name, 'one\n');
  repo.commit('second');
  await fixture.prepare({ overwrite: true });
  copy.write('.gitattributes', '* merge=union\n');
  for (const name of ['log', 'lock', 'text']) {
    copy.write(name, 'one\nguest\n');
    repo.write(name, 'one\nhost\n');
  }
  const { files } = await fixture.apply({ markers: true });
  expect(files.map(({ path, outcome }) => `${outcome} ${path}`)).toEqual([
    'applied .gitattributes',
    'conflict lock',
    'merged log',
    'conflict text',
  ]);
  expect(here('log')).toBe('one\nhost\nguest\n');
  expect(here('lock')).toBe('one\nhost\n');
  expect(here('text')).toContain('<<<<<<<');
  expect(lstatSync(join(repo.path, 'log')).mode & 0o777).toBe(0o644);
});
