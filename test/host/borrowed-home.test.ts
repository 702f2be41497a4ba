import { chownSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { refuseBorrowedHome } from '../../src/host/borrowed-home.ts';

const asRoot = test.skipIf(process.getuid!() !== 0);
const root = { uid: 0, env: { SUDO_UID: '1000' } };
let home: string;
beforeEach(() => {
  home = mkdtempSync(join(tmpdir(), 'banger-home-'));
});
afterEach(() => rmSync(home, { recursive: true, force: true }));

asRoot('sudo in the home of a user is refused, whatever is there already', () => {
  chownSync(home, 1000, 1000);
  const directories = [join(home, '.local/state/banger')];
  const refusal = expect.objectContaining({
    code: 'invalid_state',
    message: expect.stringContaining('of user 1000') as string,
    hint: expect.stringContaining('without sudo') as string,
  });
  expect(() => refuseBorrowedHome({ ...root, directories })).toThrow(refusal);
  mkdirSync(directories[0]!, { recursive: true });
  chownSync(directories[0]!, 1000, 1000);
  expect(() => refuseBorrowedHome({ ...root, directories })).toThrow(refusal);
});

asRoot("root's own home will do, by sudo or not, and so does a root that nobody has called", () => {
  const directories = [join(home, 'state')];
  refuseBorrowedHome({ ...root, directories });
  chownSync(home, 1000, 1000);
  refuseBorrowedHome({ uid: 0, env: {}, directories });
  refuseBorrowedHome({ uid: 0, env: { SUDO_UID: '0' }, directories });
});

test('who is not root is none of our business', () => {
  refuseBorrowedHome({ uid: 1000, env: { SUDO_UID: '1000' }, directories: ['/root/x'] });
});
