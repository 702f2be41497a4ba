import {
  lchownSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { checkSocketLink, ensureSocketLink, removeSocketLink } from '../../src/host/socket-link.ts';

let root: string;
let link: { path: string; target: string };
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'banger-link-'));
  link = { path: join(root, 'web.sock'), target: join(root, 'run', 'ours') };
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

const isThere = (): boolean => lstatSync(link.path, { throwIfNoEntry: false }) !== undefined;

test('a link is made, stays when it is made again, and is removed; one that is gone counts as removed', async () => {
  await checkSocketLink(link);
  await ensureSocketLink(link);
  await ensureSocketLink(link);
  // Left by an engine that was killed: it leads nowhere, and is ours all the same.
  await checkSocketLink(link);
  expect(readlinkSync(link.path)).toBe(link.target);
  await removeSocketLink(link);
  expect(isThere()).toBe(false);
  await removeSocketLink(link);
});

test('a link from when our directory was another is known again, led to where we are now, and removed', async () => {
  symlinkSync(join(root, 'elsewhere', 'ours'), link.path);
  await checkSocketLink(link);
  await ensureSocketLink(link);
  expect([readlinkSync(link.path), readdirSync(root)]).toEqual([link.target, ['web.sock']]);
  rmSync(link.path);
  symlinkSync(join(root, 'elsewhere', 'ours'), link.path);
  await removeSocketLink(link);
  expect(isThere()).toBe(false);
});

test.each([
  ['a file', () => writeFileSync(link.path, 'precious')],
  ['a directory', () => mkdirSync(link.path)],
  ['a link to something else', () => symlinkSync(join(root, 'theirs'), link.path)],
])('%s at the path is neither replaced nor removed', async (_, make) => {
  make();
  const before = lstatSync(link.path);
  const taken = {
    code: 'busy',
    message: expect.stringContaining(`"${link.path}" is there already`) as string,
  };
  await expect(checkSocketLink(link)).rejects.toMatchObject(taken);
  await expect(ensureSocketLink(link)).rejects.toMatchObject(taken);
  await removeSocketLink(link);
  expect(lstatSync(link.path)).toMatchObject({ ino: before.ino, mode: before.mode, mtimeMs: before.mtimeMs });
});

test.skipIf(process.getuid!() !== 0)(
  "another user's link is neither replaced nor removed, wherever it leads (needs root)",
  async () => {
    symlinkSync(link.target, link.path);
    lchownSync(link.path, 65_534, 65_534);
    await expect(ensureSocketLink(link)).rejects.toMatchObject({ code: 'busy' });
    await removeSocketLink(link);
    expect(isThere()).toBe(true);
  },
);

test('a directory that is missing, or is none, is told', async () => {
  const missing = { ...link, path: join(root, 'no', 'web.sock') };
  await expect(checkSocketLink(missing)).rejects.toMatchObject({
    code: 'invalid_argument',
    hint: `Make it with: mkdir -p ${join(root, 'no')}`,
  });
  writeFileSync(join(root, 'no'), '');
  await expect(checkSocketLink(missing)).rejects.toMatchObject({ code: 'invalid_argument' });
});
