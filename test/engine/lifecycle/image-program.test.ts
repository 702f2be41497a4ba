import { expect, test } from 'vitest';
import {
  guestVariables,
  imageDirectory,
  imageEnvironment,
  planProgram,
} from '../../../src/engine/lifecycle/image-program.ts';
import type { ImageConfig } from '../../../src/state/images.ts';

const config: ImageConfig = {
  env: [],
  user: 'app:staff',
  workingDirectory: 'srv/a b',
  entrypoint: ['/bin/run', '--x'],
  command: ['one', 'two'],
};
const plan = (params: object, workspace?: string, own: ImageConfig = config) =>
  planProgram({ env: {}, secrets: {}, ...params }, { name: 'app', config: own }, workspace);

test('a program runs as the image says, where it says', () => {
  expect(plan({ argv: ['ls'] })).toEqual({
    argv: ['ls'],
    user: 'app:staff',
    workingDirectory: '/srv/a b',
    fallBackToHome: true,
  });
});

test('what the user asks for comes first', () => {
  expect(plan({ argv: ['ls'], user: 'root', workingDirectory: '/x' })).toMatchObject({
    user: 'root',
    workingDirectory: '/x',
    fallBackToHome: false,
  });
});

test('a relative directory is one in the working tree, and nothing without a tree', () => {
  expect(plan({ argv: ['ls'], workingDirectory: 'src/../lib' }, '/root/work').workingDirectory).toBe(
    '/root/work/lib',
  );
  expect(() => plan({ argv: ['ls'], workingDirectory: 'x' })).toThrow('has no workspace');
});

test("a shell, and a program in a workspace, are root's", () => {
  expect(plan({}).user).toBeUndefined();
  expect(plan({ argv: ['make'] }, '/root/work')).toMatchObject({
    user: undefined,
    workingDirectory: '/root/work',
  });
  expect(plan({ argv: ['make'], user: 'app' }, '/root/work').user).toBe('app');
});

test.each([
  ['no arguments', {}, ['/bin/run', '--x', 'one', 'two']],
  ['arguments', { argv: ['three'] }, ['/bin/run', '--x', 'three']],
])("the entrypoint with %s follows docker's rules", (_, params, argv) => {
  expect(plan({ entrypoint: true, ...params })).toMatchObject({
    argv,
    user: 'app:staff',
    fallBackToHome: false,
  });
});

test('an image with a command only runs it, one with nothing is refused', () => {
  expect(plan({ entrypoint: true }, undefined, { env: [], command: ['sh'] }).argv).toEqual(['sh']);
  expect(() => plan({ entrypoint: true }, undefined, { env: [] })).toThrow(
    'neither an entrypoint nor a command',
  );
  expect(() => plan({ argv: ['x'] }, undefined, { env: [], user: 'a\0b' })).toThrow('a zero byte');
});

test('variables arrive as they are; what cannot be passed is refused', () => {
  const value = `a\n'"$(id)` + 'x'.repeat(100_000);
  const many = Array.from({ length: 10 }, (_, index) => `V${index}=${value}`);
  expect([...imageEnvironment('app', [...many, 'NONE', '=x', 'V0=last']).entries()]).toEqual([
    ['V0', 'last'],
    ...many.slice(1).map((entry) => [entry.slice(0, 2), value]),
  ]);
  expect(() => imageEnvironment('app', [`A=${'x'.repeat(131_072)}`])).toThrow('more in its variables');
  expect(() => imageEnvironment('app', [...many, ...many])).toThrow('more in its variables');
  expect(() => imageEnvironment('app', ['A=\0'])).toThrow('zero byte');
});

test.each([
  ['srv/a b', '/srv/a b'],
  ['/a/./b/../c/', '/a/c'],
  ['/../../etc', '/etc'],
  [undefined, undefined],
  ['/zero\0byte', undefined],
  [`/${'x'.repeat(5000)}`, undefined],
])('the directory that a guest makes for %j is %j', (workingDirectory, expected) => {
  expect(imageDirectory({ env: [], workingDirectory })).toBe(expected);
});

test('names that no shell can have are known as left out', () => {
  const variables = imageEnvironment('app', ['A_1=x', 'my.app=y', '1A=z', 'IFS=,', 'EMPTY=']);
  expect(guestVariables(variables)).toEqual({
    passed: [
      ['A_1', 'x'],
      ['EMPTY', ''],
    ],
    leftOut: ['my.app', '1A', 'IFS'],
  });
});
