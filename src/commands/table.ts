import Table from 'cli-table3';
import { printable } from '../printable.ts';

/**
 * A plain table: two spaces between columns, no lines, as docker and kubectl print it.
 *
 * Cells may come from guests and registries, so control characters are shown, not obeyed.
 */
export function renderTable(headings: readonly string[], rows: readonly (readonly string[])[]): string {
  const cells = [headings, ...rows.map((row) => row.map(printable))];
  return cells.every((row) => row.every(isPlain)) ? plainTable(cells) : wideTable(cells);
}

/** One column on the terminal per character: nothing that is wide, or combines with what is before it. */
function isPlain(cell: string): boolean {
  return /^[ -~\u2026]*$/.test(cell);
}

/** Hundreds of rows in a millisecond, where the library takes a third of a second. */
function plainTable(rows: readonly (readonly string[])[]): string {
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)));
  return rows
    .map((row) =>
      row
        .map((cell, column) => cell.padEnd(widths[column]! + 2))
        .join('')
        .trimEnd(),
    )
    .join('\n');
}

/** The library knows how many columns each character takes. */
function wideTable([headings, ...rows]: readonly (readonly string[])[]): string {
  const none = '';
  const table = new Table({
    head: [...headings!],
    style: { head: [], border: [], 'padding-left': 0, 'padding-right': 2 },
    chars: {
      top: none,
      'top-mid': none,
      'top-left': none,
      'top-right': none,
      bottom: none,
      'bottom-mid': none,
      'bottom-left': none,
      'bottom-right': none,
      left: none,
      'left-mid': none,
      mid: none,
      'mid-mid': none,
      right: none,
      'right-mid': none,
      middle: none,
    },
  });
  for (const row of rows) table.push([...row]);
  return table
    .toString()
    .split('\n')
    .map((line) => line.trimEnd())
    .join('\n');
}
