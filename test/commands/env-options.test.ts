import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { readEnvOptions, type EnvOptions } from '../../src/commands/env-options.ts';

let cwd: string;
beforeAll(() => {
  cwd = mkdtempSync(join(tmpdir(), 'banger-env-'));
});
afterAll(() => rmSync(cwd, { recursive: true, force: true }));

const own = { FROM_HERE: 'here', EMPTY: '' };
const read = (options: EnvOptions) => readEnvOptions(options, { own, cwd });
const file = (text: string, name = 'vars.env'): string => {
  writeFileSync(join(cwd, name), text);
  return name;
};

test('a variable without a value is taken from here, and one that is not set here is not sent', async () => {
  expect(await read({ env: ['A=1', 'FROM_HERE', 'EMPTY', 'NOT_SET', 'URL=a=b'] })).toEqual({
    A: '1',
    FROM_HERE: 'here',
    EMPTY: '',
    URL: 'a=b',
  });
});

test("a file is read as docker reads it: values as they stand, comments, bare names, other systems' line ends", async () => {
  const text = '\ufeff# first\n\n  A=1\r\nQUOTED="x y"\nHASH=a # b\nFROM_HERE\nNOT_SET\nEQUALS=a=b\nLAST=';
  expect(await read({ envFile: [file(text)] })).toEqual({
    A: '1',
    QUOTED: '"x y"',
    HASH: 'a # b',
    FROM_HERE: 'here',
    EQUALS: 'a=b',
    LAST: '',
  });
});

test('a later file beats an earlier one, and --env beats files', async () => {
  const envFile = [file('A=1\nB=1\nC=1', 'one'), file('B=2\nC=2', 'two')];
  expect(await read({ envFile, env: ['C=3'] })).toEqual({ A: '1', B: '2', C: '3' });
});

test.each([
  [() => ({ env: ['bad-name=s3cret'] }), '"bad-name" cannot be the name'],
  [() => ({ env: ['s3cret!'] }), 'that cannot be the name'],
  [() => ({ env: ['=s3cret'] }), '"" cannot be the name'],
  [() => ({ envFile: [file('A=1\nexport B=s3cret')] }), '"vars.env" line 2: "export B" cannot be the name'],
  [() => ({ envFile: [file('A=s3cret\0')] }), 'line 1: the value of A has a zero byte'],
])('what is wrong is told without the value (%#)', async (options, words) => {
  const error = await read(options()).catch((thrown: unknown) => thrown);
  expect(error).toMatchObject({
    code: 'invalid_argument',
    message: expect.stringContaining(words) as string,
  });
  expect(JSON.stringify([error, (error as Error).message])).not.toContain('s3cret');
});

test('a file that is not there is named', async () => {
  await expect(read({ envFile: ['none.env'] })).rejects.toMatchObject({
    code: 'not_found',
    message: `There is no file "${join(cwd, 'none.env')}"`,
  });
  await expect(read({ envFile: ['.'] })).rejects.toThrow('cannot be read (EISDIR)');
});
