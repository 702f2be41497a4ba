import type { BootRow } from '../host/doctor/boot-table.ts';
import { printable } from '../printable.ts';
import { renderTable } from './table.ts';

/**
 * Every way to run a VM that was tried, and of each its phases, of which some are taken together: what they took adds up
 * to the total, but for what is between them. `--json` has them one by one.
 * A reason that several have in common is told once, below, by the number that their results have.
 */
export function waysText(ways: readonly BootRow[]): string {
  const reasons = [...new Set(ways.map(({ reason }) => reason).filter((reason) => reason !== ''))];
  const secondsOf = (way: BootRow, ...ids: string[]): string => {
    const found = way.phases?.filter(({ id }) => ids.includes(id));
    return found ? found.reduce((sum, { seconds }) => sum + seconds, 0).toFixed(2) : '';
  };
  const table = renderTable(
    [
      ...['VMM', 'BY', 'DISK', 'NETWORK', 'RESULT'],
      ...['IMAGE', 'DISK MADE', 'START', 'KERNEL', 'ROOT', 'SSH', 'END', 'TOTAL'],
    ],
    ways.map((way) => [
      way.driver,
      way.acceleration,
      way.disk,
      way.network,
      way.reason === '' ? way.result : `${way.result} (${reasons.indexOf(way.reason) + 1})`,
      secondsOf(way, 'prepare'),
      secondsOf(way, 'disk'),
      secondsOf(way, 'vmm'),
      secondsOf(way, 'kernel', 'modules', 'other'),
      secondsOf(way, 'root'),
      secondsOf(way, 'network', 'ssh', 'handshake', 'exec'),
      secondsOf(way, 'power-off', 'take-down'),
      way.totalSeconds?.toFixed(2) ?? '',
    ]),
  );
  return [table, ...reasons.map((reason, index) => `(${index + 1}) ${printable(reason)}`)].join('\n');
}
