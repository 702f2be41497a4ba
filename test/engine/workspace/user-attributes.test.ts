import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { parseGitConfig } from '../../../src/engine/workspace/host-tree/git-config.ts';
import { userAttributesWarnings } from '../../../src/engine/workspace/host-tree/user-attributes.ts';
import { makeTempDirectory } from '../../support/git-repo.ts';
import { createFixture } from './workspace-fixture.ts';

let home: ReturnType<typeof makeTempDirectory>;
beforeEach(() => {
  home = makeTempDirectory();
});
afterEach(() => home.remove());

function write(name: string, text: string): string {
  const path = join(home.path, name);
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, text);
  return path;
}
const warnings = (setting = '', env: Record<string, string> = {}) =>
  userAttributesWarnings(parseGitConfig(Buffer.from(setting)), { HOME: home.path, ...env });

test('attributes of the user that decide what files look like are told, wherever git has them from', async () => {
  expect(await warnings()).toEqual([]);
  const usual = write('.config/git/attributes', '*.txt text eol=crlf\n');
  expect(await warnings()).toEqual([expect.stringContaining(`"${usual}" says what files look like`)]);
  expect(await warnings('', { XDG_CONFIG_HOME: join(home.path, 'other') })).toEqual([]);
  const chosen = write('mine', '*.bin binary\n');
  for (const setting of ['~/mine', chosen])
    expect(await warnings(`core.attributesfile\n${setting}\0`)).toEqual([
      expect.stringContaining(`"${chosen}"`),
    ]);
});

test.each(['', '# *.txt text\n', '*.png diff=exif\n', '*.md diff=markdown\n'])(
  'those that do not are nothing to tell: %j',
  async (text) => {
    write('.config/git/attributes', text);
    expect(await warnings()).toEqual([]);
  },
);

test('a tree that is sent is told of with them', async () => {
  const fixture = createFixture();
  try {
    const file = write('mine', '* text=auto\n');
    fixture.repo.git('config', 'core.attributesFile', file);
    fixture.repo.write('a', 'a\n');
    fixture.repo.commit('first');
    expect((await fixture.prepare()).warnings).toEqual([expect.stringContaining(`"${file}"`)]);
  } finally {
    fixture.remove();
  }
});

test('what the user has git ignore in all repositories is ignored in the guest, unless the tree says otherwise', async () => {
  const fixture = createFixture();
  const { repo, copy } = fixture;
  try {
    repo.git('config', 'core.excludesFile', write('ignore', '*.log\n.idea'));
    repo.write('.git/info/exclude', '!kept.log\n');
    repo.write('a', 'a\n');
    repo.commit('first');
    for (const name of ['named.log', 'other.log', 'kept.log']) repo.write(name, 'log\n');
    await fixture.prepare({ includeUntracked: true, include: [join(repo.path, 'named.log')] });
    const ignored = ['status', '--porcelain', '--ignored'];
    expect(repo.git(...ignored)).toBe('?? kept.log\n!! named.log\n!! other.log\n');
    expect(copy.git(...ignored)).toBe('?? kept.log\n!! named.log\n');
    copy.write('.idea/made', 'there\n');
    expect((await fixture.export()).files).toEqual([]);
  } finally {
    fixture.remove();
  }
});
