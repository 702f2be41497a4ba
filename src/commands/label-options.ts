import { InvalidArgumentError } from 'commander';

/** A label by which VMs are chosen; without a value, any will do. */
export interface LabelSelector {
  readonly key: string;
  readonly value?: string;
}

const keyPattern = /^[A-Za-z0-9](?:[A-Za-z0-9._/-]{0,126}[A-Za-z0-9])?$/;

/** Collects `--label KEY=value`, as docker has it: without a value it is empty. */
export function collectLabel(entry: string, collected: Record<string, string> = {}): Record<string, string> {
  const { key, value = '' } = parseLabel(entry);
  return { ...collected, [key]: value };
}

/** Collects `--label KEY` and `--label KEY=value` as a choice of VMs. */
export function collectSelector(entry: string, collected: readonly LabelSelector[] = []): LabelSelector[] {
  return [...collected, parseLabel(entry)];
}

/** Collects docker's `--filter label=KEY=value`. */
export function collectFilter(entry: string, collected: readonly LabelSelector[] = []): LabelSelector[] {
  if (!entry.startsWith('label='))
    throw new InvalidArgumentError('A filter is label=KEY or label=KEY=value.');
  return [...collected, parseLabel(entry.slice('label='.length))];
}

function parseLabel(entry: string): LabelSelector {
  const at = entry.indexOf('=');
  const key = at < 0 ? entry : entry.slice(0, at);
  if (!keyPattern.test(key)) {
    throw new InvalidArgumentError(
      `"${key}" cannot be a label: it takes letters, digits, ".", "_", "/" and "-", and begins and ends with a letter or digit.`,
    );
  }
  return at < 0 ? { key } : { key, value: entry.slice(at + 1) };
}
