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
