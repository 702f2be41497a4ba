import { BangerError } from '../../errors.ts';
import type { Exec } from '../exec.ts';
import { tableName, type HostNetwork } from './plan.ts';
import { ruleset } from './ruleset.ts';

const families = ['bridge', 'inet'] as const;

/**
 * Tables of an owner's, such as `inet banger_0a1b`, that are not there as they are to be: whoever flushes rules takes
 * ours along, and nothing tells us. Takes the right to list rules.
 */
export async function findMissingRules(exec: Exec, network: HostNetwork): Promise<string[]> {
  const wanted = outlineOf(ruleset(network));
  const tables = families.map((family) => `${family} ${tableName(network.owner)}`);
  const found = new Map<string, number>();
  for (const table of tables) {
    const text = await listTable(exec, table);
    for (const [place, count] of outlineOf(text)) found.set(place, count);
  }
  return tables.filter((table) =>
    [...wanted].some(([place, count]) => place.startsWith(`${table} `) && found.get(place) !== count),
  );
}

/** Empty when there is none. */
async function listTable(exec: Exec, table: string): Promise<string> {
  const [family = '', name = ''] = table.split(' ');
  try {
    return (await exec(['nft', 'list', 'table', family, name])).stdout.toString('utf8');
  } catch (error) {
    if (error instanceof BangerError && /No such file or directory/.test(error.message)) return '';
    throw error;
  }
}

/**
 * How many rules each chain has, and how many elements each set: `nft` lists rules in words of its own, but each on a
 * line. By `FAMILY TABLE chain NAME`.
 */
function outlineOf(text: string): Map<string, number> {
  const outline = new Map<string, number>();
  /** Sets that packets fill */
  const filled = new Set<string>();
  let [table, block] = ['', ''];
  for (const line of text.split('\n').map((one) => one.trim())) {
    const [, opened] = /^table (\w+ \w+) \{$/.exec(line) ?? [];
    const [, inner] = /^((?:chain|set) \w+) \{$/.exec(line) ?? [];
    table = opened ?? table;
    if (line.startsWith('flags dynamic')) filled.add(block);
    if (inner !== undefined) outline.set((block = `${table} ${inner}`), 0);
    else if (line === '}') block = '';
    else if (block !== '') outline.set(block, outline.get(block)! + weightOf(block, line));
  }
  for (const name of filled) outline.delete(name);
  return outline;
}

function weightOf(block: string, line: string): number {
  if (line === '' || /^(?:#|type |policy )/.test(line)) return 0;
  if (!block.includes(' set ')) return 1;
  if (/^(?:size|flags|timeout) /.test(line)) return 0;
  // Elements are as many to a line as whoever writes them likes.
  return line
    .replace(/^elements = \{/, '')
    .split(',')
    .filter((word) => /\w/.test(word)).length;
}
