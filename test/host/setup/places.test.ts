import { expect, test } from 'vitest';
import type { Exec } from '../../../src/host/exec.ts';
import { findSetupUser, type UserWish } from '../../../src/host/setup/places.ts';

/** A host without any user but Ann. */
const exec: Exec = ([, , wanted]) =>
  Promise.resolve({
    exitCode: wanted === 'ann' ? 0 : 2,
    stdout: Buffer.from(wanted === 'ann' ? 'ann:x:1000:1000::/home/ann:/bin/sh\n' : ''),
    stderr: '',
  });
const known = [{ uid: 1001, name: 'bob' }];
const find = (verb: UserWish['verb'], name: string) => findSetupUser(exec, { verb, name, known }, {});

test('what was set up for a user who is gone is seen and taken down, by name or number', async () => {
  for (const verb of ['status', 'teardown'] as const)
    for (const name of ['bob', '1001']) expect(await find(verb, name)).toEqual(known[0]);
  expect(await find('teardown', 'ann')).toEqual({ uid: 1000, name: 'ann' });
  // A setup that was cut short may have written no file that names them.
  expect(await find('teardown', '1002')).toEqual({ uid: 1002, name: 'user id 1002' });
});

test.each([
  ['setup', 'bob'],
  ['setup', '1001'],
  ['status', '1002'],
  ['teardown', 'eve'],
  ['teardown', '0'],
] as const)('%s for nobody is refused: %s', async (verb, name) => {
  await expect(find(verb, name)).rejects.toThrow(`There is no user "${name}"`);
});
