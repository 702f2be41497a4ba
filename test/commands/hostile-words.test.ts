import { PassThrough } from 'node:stream';
import { expect, test } from 'vitest';
import type { LocalStreams } from '../../src/commands/attach.ts';
import { CliRuntime, type CliInput } from '../../src/commands/cli-runtime.ts';
import { workspaceExportCommand } from '../../src/commands/workspace-export.ts';
import type { Cli } from '../../src/commands/cli.ts';
import type { TransferEnds } from '../../src/commands/transfer.ts';
import { BangerError } from '../../src/errors.ts';

/** Sets the clipboard and the title, asks for settings, in seven and in eight bits; turns text around. */
const hostile = 'a\u001b]52;c;ZXZpbA==\u0007\u001b]0;x\u001b\\\u001bP$qm\u001b\\\u009d0;x\u009c\u202eb';
const obeyed = /(?!\n)\p{Cc}|\p{Bidi_Control}/u;

/** A command's runtime on streams that are read back; on a terminal if told. */
function openCli({ isTerminal = false, json = false } = {}) {
  const output = new PassThrough();
  const stream = Object.assign(output, { isTTY: isTerminal, columns: 80, rows: 24 });
  const streams = { stdin: stream, stdout: stream, stderr: stream } as unknown as LocalStreams;
  const cli = new CliRuntime({
    connect: {} as CliInput['connect'],
    streams,
    env: { TERM: 'dumb' },
    cwd: '/',
    onInterrupt: () => () => undefined,
  });
  cli.json = json;
  return { cli, said: () => String(output.read() ?? '') };
}

const ways: Record<string, (cli: CliRuntime) => unknown> = {
  'a result': (cli) => cli.print({ name: hostile }, ({ name }) => `${name}\n${name}`),
  talk: (cli) => cli.say(`warning: ${hostile}`),
  'an error': (cli) => cli.reportError(new BangerError('not_found', hostile, { hint: hostile })),
  'an error that nobody expected': (cli) => cli.reportError(new Error(hostile)),
  progress: (cli) =>
    cli.showProgress({
      stage: hostile,
      detail: hostile,
      parts: [{ name: hostile, state: 'done', done: 1 }],
    }),
};

test.each(
  Object.keys(ways).flatMap(
    (way) =>
      [
        [way, true],
        [way, false],
      ] as const,
  ),
)('%s with words of a guest or a registry is shown, not obeyed (JSON: %s)', (way, json) => {
  const { cli, said } = openCli({ json });
  ways[way]!(cli);
  const text = said();
  // Talk is for people: programs are not told.
  if (way !== 'talk' || !json) expect(text).toContain('52;c;ZXZpbA==');
  expect(text).not.toMatch(obeyed);
  if (json)
    for (const line of way === 'a result' ? [text] : text.split('\n').filter(Boolean)) JSON.parse(line);
});

test('a patch that a guest wrote is shown on a terminal, and whole in a pipe', async () => {
  const patch = Buffer.from(`+${hostile}\n`);
  const head = { vm: 'web', hostPath: '/', guestPath: '/root/tree', baseTree: '', files: [], warnings: [] };
  const write = async (isTerminal: boolean): Promise<Buffer> => {
    const pieces: (Buffer | string)[] = [];
    const cli = {
      cwd: '/',
      printsToTerminal: isTerminal,
      transfer: async (_: unknown, __: unknown, { output }: TransferEnds) => {
        await output!(Buffer.from(`${JSON.stringify(head)}\n`));
        await output!(patch);
        return { code: 0 };
      },
      say: () => undefined,
      write: (piece: Buffer | string) => Promise.resolve(void pieces.push(piece)),
    } as unknown as Cli;
    await workspaceExportCommand(cli).parseAsync(['.'], { from: 'user' });
    return Buffer.concat(pieces.map((piece) => Buffer.from(piece)));
  };
  expect(await write(false)).toEqual(patch);
  const shown = (await write(true)).toString();
  expect(shown).toContain('\\x1b]52;c;ZXZpbA==\\x07');
  expect(shown).not.toMatch(obeyed);
});
