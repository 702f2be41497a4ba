import { printable } from '../printable.ts';
import type { WorkspaceChange } from '../engine/rpc/workspace-methods.ts';

/** Width of git's own on anything but a terminal. */
const defaultColumns = 80;

interface Row {
  readonly name: string;
  readonly isBinary: boolean;
  /** Lines, or bytes of a binary file */
  readonly added: number;
  readonly removed: number;
}

/** A diffstat as `git diff --stat` prints it, in as many columns as there are; nothing when nothing changed. */
export function diffstat(files: readonly WorkspaceChange[], columns = defaultColumns): string {
  if (files.length === 0) return '';
  const rows = files.map(toRow);
  const widths = planWidths(rows, columns);
  return [...rows.map((row) => rowText(row, widths)), shortStat(rows)].join('\n');
}

function toRow({ path, added, removed, oldBytes = 0, newBytes = 0 }: WorkspaceChange): Row {
  const name = printable(path);
  if (added === undefined) return { name, isBinary: true, added: newBytes, removed: oldBytes };
  return { name, isBinary: false, added, removed: removed ?? 0 };
}

interface Widths {
  readonly name: number;
  readonly number: number;
  readonly graph: number;
  /** Lines of the file that changed most */
  readonly maxChange: number;
}

/** Git's rule: names and numbers as they are while there is room; else the graph gets 3/8 and the names the rest. */
function planWidths(rows: readonly Row[], columns: number): Widths {
  const text = rows.filter(({ isBinary }) => !isBinary);
  const binary = rows.filter(({ isBinary }) => isBinary);
  const maxChange = largest(text.map(({ added, removed }) => added + removed));
  const longest = largest(rows.map(({ name }) => [...name].length));
  const binaryWidth = largest(binary.map((row) => 14 + digits(row.added) + digits(row.removed)));
  const number = Math.max(digits(maxChange), binary.length > 0 ? 3 : 0);
  const width = Math.max(columns, 16 + 6 + number);
  const wanted = maxChange + 4 > binaryWidth ? maxChange : binaryWidth - 4;
  if (longest + number + 6 + wanted <= width) return { name: longest, number, graph: wanted, maxChange };
  const share = Math.max(Math.floor((width * 3) / 8) - number - 6, 6);
  const graph = Math.min(wanted, share);
  const room = width - number - 6;
  if (longest > room - graph) return { name: room - graph, number, graph, maxChange };
  return { name: longest, number, graph: room - longest, maxChange };
}

function rowText({ name, isBinary, added, removed }: Row, widths: Widths): string {
  const shown = shortened(name, widths.name).padEnd(widths.name + surplus(name, widths.name));
  if (isBinary) {
    const sizes = added === 0 && removed === 0 ? '' : ` ${removed} -> ${added} bytes`;
    return ` ${shown} | ${'Bin'.padStart(widths.number)}${sizes}`;
  }
  const total = added + removed;
  const { plus, minus } = bars(added, removed, widths);
  const graph = total === 0 ? '' : ` ${'+'.repeat(plus)}${'-'.repeat(minus)}`;
  return ` ${shown} | ${String(total).padStart(widths.number)}${graph}`;
}

/** How many code units of a name that is shown in full are no characters of their own. */
function surplus(name: string, width: number): number {
  const text = shortened(name, width);
  return text.length - [...text].length;
}

/** The end of a long name, from a directory on if one begins in it. */
function shortened(name: string, width: number): string {
  const characters = [...name];
  if (characters.length <= width) return name;
  const end = characters.slice(characters.length - Math.max(width - 3, 0)).join('');
  const slash = end.indexOf('/');
  return `...${slash < 0 ? end : end.slice(slash)}`;
}

function bars(added: number, removed: number, { graph, maxChange }: Widths): { plus: number; minus: number } {
  if (graph > maxChange) return { plus: added, minus: removed };
  const scaled = (count: number): number =>
    count === 0 ? 0 : 1 + Math.floor((count * (graph - 1)) / maxChange);
  const total = Math.max(scaled(added + removed), added > 0 && removed > 0 ? 2 : 0);
  if (added < removed) return { plus: scaled(added), minus: total - scaled(added) };
  return { plus: total - scaled(removed), minus: scaled(removed) };
}

/** The last line: ` 2 files changed, 3 insertions(+), 1 deletion(-)`. */
function shortStat(rows: readonly Row[]): string {
  const text = rows.filter(({ isBinary }) => !isBinary);
  const added = text.reduce((sum, row) => sum + row.added, 0);
  const removed = text.reduce((sum, row) => sum + row.removed, 0);
  const parts = [` ${counted(rows.length, 'file')} changed`];
  if (added > 0 || removed === 0) parts.push(`${counted(added, 'insertion')}(+)`);
  if (removed > 0 || added === 0) parts.push(`${counted(removed, 'deletion')}(-)`);
  return parts.join(', ');
}

function counted(count: number, what: string): string {
  return `${count} ${what}${count === 1 ? '' : 's'}`;
}

function digits(count: number): number {
  return String(count).length;
}

/** Not by spreading: there may be more files than arguments. */
function largest(numbers: readonly number[]): number {
  return numbers.reduce((most, each) => Math.max(most, each), 0);
}
