import { Command, InvalidArgumentError } from 'commander';
import { eventStream } from '../engine/rpc/event-methods.ts';
import { parseDurationMs } from '../state/units.ts';
import type { Cli } from './cli.ts';
import { printable, printableJsonText } from '../printable.ts';

const filterKeys = ['type', 'action', 'subject'] as const;
type Filters = Partial<Record<(typeof filterKeys)[number], string[]>>;

interface EventsOptions {
  readonly since?: number;
  readonly until?: number;
  readonly filter?: Filters;
}

const help = `
Filters: type=vm|image|workspace|operation|engine, action=ACTION, subject=NAME or the beginning of an id.
Given several times, one of the same key must match, and each key.

Examples:
  banger events --json
  banger events --since 10m --until 0s
  banger events --filter type=vm --filter action=stopped`;

export function eventsCommand(cli: Cli): Command {
  return new Command('events')
    .description('Show what happens to VMs, images, workspaces and operations, as it happens')
    .option(
      '--since <time>',
      'begin with what happened since, such as 10m (ago) or 2030-01-31T12:00:00Z',
      parseTime,
    )
    .option('--until <time>', 'end then', parseTime)
    .option('-f, --filter <key=value>', 'only events that match (repeatable)', collectFilter)
    .addHelpText('after', help)
    .action(async ({ since, until, filter }: EventsOptions) => {
      const params = {
        since,
        until,
        types: filter?.type,
        actions: filter?.action,
        subjects: filter?.subject,
      };
      let rest = '';
      const decoder = new TextDecoder();
      await cli.follow(eventStream, params, async (bytes) => {
        const lines = (rest + decoder.decode(bytes, { stream: true })).split('\n');
        rest = lines.pop() ?? '';
        if (lines.length > 0)
          await cli.write(
            lines.map((line) => `${cli.json ? printableJsonText(line) : eventText(line)}\n`).join(''),
          );
      });
    });
}

/** `2030-01-31T12:00:00.000Z vm stopped web (id=0123…, reason=…)` */
function eventText(line: string): string {
  const { time, type, action, name, id, ...rest } = JSON.parse(line) as Record<string, string>;
  const details = Object.entries({ ...(name === undefined ? {} : { id: id!.slice(0, 12) }), ...rest });
  const more =
    details.length === 0 ? '' : ` (${details.map(([key, value]) => `${key}=${value}`).join(', ')})`;
  return printable(`${time} ${type} ${action} ${name ?? id}${more}`);
}

/** A time as milliseconds since 1970: a duration means that long ago. */
export function parseTime(text: string): number {
  const time = /^\d{4}-\d\d-\d\d/.test(text) ? Date.parse(text) : Number.NaN;
  if (!Number.isNaN(time)) return time;
  try {
    return Date.now() - parseDurationMs(text);
  } catch {
    throw new InvalidArgumentError('Write a time like 10m (ago) or 2030-01-31T12:00:00Z.');
  }
}

function collectFilter(entry: string, collected: Filters = {}): Filters {
  const [word, ...value] = entry.split('=');
  const key = filterKeys.find((known) => known === word);
  if (!key || value.length === 0)
    throw new InvalidArgumentError(`Write KEY=VALUE, with KEY one of ${filterKeys.join(', ')}.`);
  return { ...collected, [key]: [...(collected[key] ?? []), value.join('=')] };
}
