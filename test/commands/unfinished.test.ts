import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';

/** Begins to save something, says so, and never comes to an end. */
const savers = {
  file: `import { saveOutput } from '${resolve('src/commands/save-output.ts')}';
    await saveOutput({}, process.argv[1], async ({ output }) => {
      await output(Buffer.from('half'));
      await begun();
    });`,
  directory: `import { writeFileSync } from 'node:fs';
    import { saveDirectory } from '${resolve('src/commands/save-directory.ts')}';
    await saveDirectory(process.argv[1], async (directory) => {
      writeFileSync(directory + '/half', '');
      await begun();
    });`,
};
const begun = `function begun() {
    process.on('SIGUSR2', () => process.exit(130));
    console.log('begun');
    return new Promise((resolve) => setInterval(resolve, 60_000));
  }`;

test.each(
  (['file', 'directory'] as const).flatMap((kind) => [
    { kind, ending: 'SIGTERM', exit: [null, 'SIGTERM'] } as const,
    { kind, ending: 'SIGHUP', exit: [null, 'SIGHUP'] } as const,
    // As a Ctrl-C that nobody waits for ends it, or the second one.
    { kind, ending: 'SIGUSR2', exit: [130, null] } as const,
  ]),
)('nothing is left of a $kind that was half written when $ending came', async ({ kind, ending, exit }) => {
  const directory = mkdtempSync(join(tmpdir(), 'bt-unfinished-'));
  onTestFinished(() => rmSync(directory, { recursive: true }));
  const child = spawn(
    process.execPath,
    ['--input-type=module', '-e', `${savers[kind]}\n${begun}`, join(directory, 'out')],
    { stdio: ['ignore', 'pipe', 'inherit'] },
  );
  await once(child.stdout, 'data');
  expect(readdirSync(directory)).toEqual([expect.stringMatching(/^\.out\..*\.partial$/)]);
  child.kill(ending);
  expect(await once(child, 'exit')).toEqual(exit);
  expect(readdirSync(directory)).toEqual([]);
});
