import type { ProgressEvent } from '../engine/rpc/messages.ts';
import { formatBytes } from '../state/units.ts';
import { printable } from '../printable.ts';

type Part = NonNullable<ProgressEvent['parts']>[number];

const stateWords: Readonly<Record<Part['state'], string>> = {
  waiting: 'waiting',
  verifying: 'verifying',
  downloading: 'downloading',
  downloaded: 'downloaded',
  cached: 'already here',
  converting: 'converting',
  done: 'done',
};
const stateWidth = Math.max(...Object.values(stateWords).map((word) => word.length));
const underWay: ReadonlySet<Part['state']> = new Set(['verifying', 'downloading', 'converting']);
const minBarWidth = 8;
const maxBarWidth = 40;
/** `1023 MiB of 1023 MiB`; the same for all, so that bars have one length */
const tailWidth = 22;

/**
 * One line for each part, none wider than `columns` and no more than `rows` of them: when there are too many, those
 * that are worked on are shown, and the others counted.
 */
export function partLines(
  parts: readonly Part[],
  { columns, rows }: { columns: number; rows: number },
): string[] {
  if (parts.length <= rows) return parts.map((part) => partLine(part, columns));
  const shown = parts.filter((part) => underWay.has(part.state)).slice(0, Math.max(0, rows - 1));
  if (rows < 1) return [];
  return [...shown.map((part) => partLine(part, columns)), cut(restText(parts, shown), columns)];
}

/** What is worth a line of its own in a log, now that things are so: each part once, when it has come. */
export function partNews(parts: readonly Part[], told: Set<string>): string[] {
  return parts
    .filter(({ name, state }) => !['waiting', 'verifying', 'downloading'].includes(state) && !told.has(name))
    .map((part) => {
      told.add(part.name);
      const size =
        part.state === 'downloaded' && part.done !== undefined ? `, ${formatBytes(part.done)}` : '';
      return `${part.name}: ${part.state === 'cached' ? stateWords.cached : `downloaded${size}`}`;
    });
}

function partLine(part: Part, columns: number): string {
  const head = `  ${printable(part.name)}  ${stateWords[part.state].padEnd(stateWidth)}`;
  if (!underWay.has(part.state) || part.done === undefined) return cut(head.trimEnd(), columns);
  const amount = formatBytes(part.done).padStart(9);
  if (part.total === undefined) return cut(`${head}  ${amount}`, columns);
  const tail = `${amount} of ${formatBytes(part.total)}`;
  const width = Math.min(maxBarWidth, columns - head.length - tailWidth - '  []  '.length);
  if (width >= minBarWidth) return `${head}  [${bar(part.done / part.total, width)}]  ${tail}`;
  const percent = `${Math.floor((100 * part.done) / (part.total || 1))}%`.padStart(4);
  return cut(`${head}  ${percent}`, columns);
}

function bar(fraction: number, width: number): string {
  const filled = Math.round(Math.min(1, Math.max(0, fraction)) * width);
  const body = '='.repeat(filled);
  return (filled < width && filled > 0 ? `${body.slice(1)}>` : body).padEnd(width);
}

function restText(parts: readonly Part[], shown: readonly Part[]): string {
  const counts = new Map<string, number>();
  for (const part of parts) {
    if (!shown.includes(part)) counts.set(part.state, (counts.get(part.state) ?? 0) + 1);
  }
  return `  … ${[...counts].map(([state, count]) => `${count} ${stateWords[state as Part['state']]}`).join(', ')}`;
}

function cut(line: string, columns: number): string {
  return line.length <= columns ? line : line.slice(0, Math.max(0, columns));
}
