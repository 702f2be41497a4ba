import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { Cli } from '../../src/commands/cli.ts';
import { readLendOptions } from '../../src/commands/secret-options.ts';
import { makeTempDirectory } from '../support/git-repo.ts';

let directory: ReturnType<typeof makeTempDirectory>;
beforeEach(() => {
  directory = makeTempDirectory();
});
afterEach(() => directory.remove());

async function secretOf(content: Buffer): Promise<string | undefined> {
  writeFileSync(join(directory.path, 'key'), content);
  const cli = { cwd: directory.path, keepFromEngine: () => undefined } as unknown as Cli;
  return (await readLendOptions(cli, { secretFile: ['KEY=key'] }, {})).secrets['KEY'];
}

test('a secret of a file is its bytes, or refused: those that are no text would be others in the VM', async () => {
  const text = Buffer.from('\ufeffgröße\r\n');
  expect(Buffer.from((await secretOf(text))!)).toEqual(text);
  const refusal = {
    message: 'The secret KEY is not text (UTF-8)',
    hint: expect.stringContaining('base64') as string,
  };
  for (const bytes of [
    [0xff, 0xfe],
    [0x61, 0xc3],
    [0xed, 0xa0, 0x80],
  ])
    await expect(secretOf(Buffer.from(bytes))).rejects.toMatchObject(refusal);
});
