import { InvalidArgumentError } from 'commander';
import { BangerError } from '../errors.ts';
import { parseDurationMs, parseSizeBytes } from '../state/units.ts';

/** A whole number from 1 up. */
export function parseCount(text: string): number {
  const value = Number(text);
  if (/^\d+$/.test(text) && value >= 1 && Number.isSafeInteger(value)) return value;
  throw new InvalidArgumentError('It must be a whole number from 1 up.');
}

/** A VM's name, which is its host name too. The engine checks it again; here it is a usage error. */
export function parseVmName(text: string): string {
  if (/^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/.test(text)) return text;
  throw new InvalidArgumentError(
    'A name is 1 to 63 of a-z, 0-9 and -, and begins and ends with a letter or digit.',
  );
}

/** A size such as `512M` or `8G`, in bytes. */
export function parseSize(text: string): number {
  return orUsage(() => parseSizeBytes(text));
}

/** A size in MiB. A plain number means MiB, as it does for docker's and qemu's users when they mean memory. */
export function parseMib(text: string): number {
  return /^\d+$/.test(text) ? parseCount(text) : Math.floor(parseSize(text) / 1024 ** 2);
}

/** A duration such as `10s`, in milliseconds. A plain number means seconds, as with docker stop. */
export function parseDuration(text: string): number {
  return orUsage(() => parseDurationMs(/^\d+$/.test(text) ? `${text}s` : text));
}

/** How long a VM may run, from a second up. */
export function parseStopAfter(text: string): number {
  const milliseconds = parseDuration(text);
  if (milliseconds >= 1_000) return milliseconds;
  throw new InvalidArgumentError('It must be at least 1s.');
}

/** The same; 0 for `off`, `none` and `0`. (Commander makes an empty string of null.) */
export function parseStopAfterOrOff(text: string): number {
  return ['off', 'none', '0'].includes(text) ? 0 : parseStopAfter(text);
}

/** Collects the values of an option that may be given several times. */
export function collectWord(word: string, collected: readonly string[] = []): string[] {
  return [...collected, word];
}

/** Makes a usage error of what a parser complains of. */
export function orUsage<T>(parse: () => T): T {
  try {
    return parse();
  } catch (error) {
    if (error instanceof BangerError) throw new InvalidArgumentError(`${error.hint ?? error.message}.`);
    throw error;
  }
}
