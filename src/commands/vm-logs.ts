import { Command, InvalidArgumentError, Option } from 'commander';
import { logSources, vmLogs } from '../engine/rpc/vm-log-methods.ts';
import type { Cli } from './cli.ts';
import { parseTime } from './events.ts';
import { HarmlessText } from './harmless.ts';
import { printable, printableJson } from '../printable.ts';
import { addLabelFilter, chooseVm, type VmSelection } from './vm-selection.ts';

type Source = (typeof logSources)[number];

interface LogsOptions {
  readonly source: Source;
  readonly follow: boolean;
  readonly tail?: number;
  readonly since?: number;
  readonly raw: boolean;
}

const help = `
On a terminal, control sequences of the guest other than colours are left out; piped, or with --raw, bytes are as
they were written.

Examples:
  banger vm logs web -f
  banger vm logs web --tail 100
  banger vm logs web --source engine --since 10m`;

export function vmLogsCommand(cli: Cli): Command {
  const command = new Command('logs')
    .description("Show a VM's console, what its VMM said, or what the engine noted about it")
    .argument('[vm]', 'name or id; left out with --label')
    .addOption(new Option('--source <source>', 'which log').choices(logSources).default('console'))
    .option('-f, --follow', 'go on until the VM stops', false)
    .option('-n, --tail <lines>', 'begin with the last lines (default: all that is kept)', parseLines)
    .option(
      '--since <time>',
      "of the engine's log: begin there, such as 10m (ago) or 2030-01-31T12:00:00Z",
      parseTime,
    )
    .option('--raw', 'leave control sequences as they are on a terminal, too', false)
    .addHelpText('after', help);
  return addLabelFilter(command).action(
    async (name: string | undefined, options: LogsOptions & VmSelection) => {
      const vm = await chooseVm(cli, { vm: name, options, command });
      const { source, follow, tail, since } = options;
      const output = outputOf(cli, vm, options);
      await cli.follow(vmLogs, { vm, source, follow, tail, since }, async (piece) => {
        const text = output.push(piece);
        if (text.length > 0) await cli.write(text);
      });
      const last = output.end();
      if (last !== '') await cli.write(last);
    },
  );
}

interface Output {
  push(piece: Buffer): Buffer | string;
  end(): string;
}

function outputOf(cli: Cli, vm: string, { source, follow, raw }: LogsOptions): Output {
  if (cli.json && !follow) return asOneValue(vm, source);
  if (cli.json) return byLine((line) => `${printableJson({ vm, source, ...lineValue(source, line) })}\n`);
  if (source === 'engine') return byLine((line) => `${engineText(line)}\n`);
  if (raw || !cli.printsToTerminal) return { push: (piece) => piece, end: () => '' };
  return new HarmlessText();
}

/** `{ vm, source, text }`, or for the engine's log `{ vm, source, entries }`. */
function asOneValue(vm: string, source: Source): Output {
  const pieces: Buffer[] = [];
  return {
    push: (piece) => {
      pieces.push(piece);
      return '';
    },
    end: () => {
      const text = Buffer.concat(pieces).toString();
      const entries = text.split('\n').filter((line) => line !== '');
      const content = source === 'engine' ? { entries: entries.map((line) => parseEntry(line)) } : { text };
      return `${printableJson({ vm, source, ...content }, 2)}\n`;
    },
  };
}

/** Calls for each whole line, without its end, and for what is left at the end. */
function byLine(textOf: (line: string) => string): Output {
  const decoder = new TextDecoder();
  let rest = '';
  return {
    push: (piece) => {
      const text = decoder.decode(piece, { stream: true });
      if (!text.includes('\n')) {
        // A guest's line may come in thousands of pieces.
        rest += text;
        return '';
      }
      const lines = (rest + text).split('\n');
      rest = lines.pop() ?? '';
      return lines.map((line) => textOf(line.replace(/\r$/, ''))).join('');
    },
    end: () => (rest === '' ? '' : textOf(rest)),
  };
}

function lineValue(source: Source, line: string): object {
  return source === 'engine' ? { entry: parseEntry(line) } : { line };
}

function parseEntry(line: string): Record<string, unknown> {
  return JSON.parse(line) as Record<string, unknown>;
}

/** `2030-01-31T12:00:00.000Z warn VM did not power off in time (flushed=false)` */
function engineText(line: string): string {
  const { time, level, message, ...more } = parseEntry(line);
  const fields = Object.entries(more).filter(([key]) => key !== 'vm');
  const details = fields.map(([key, value]) => `${key}=${String(value)}`);
  const tail = details.length === 0 ? '' : ` (${details.join(', ')})`;
  return printable(`${String(time)} ${String(level)} ${String(message)}${tail}`);
}

function parseLines(text: string): number {
  if (!/^\d{1,9}$/.test(text)) throw new InvalidArgumentError('Write a number of lines, such as 100.');
  return Number(text);
}
