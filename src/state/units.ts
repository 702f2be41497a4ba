import { BangerError } from '../errors.ts';

const sizeUnits: Readonly<Record<string, number>> = {
  '': 1,
  k: 1024,
  m: 1024 ** 2,
  g: 1024 ** 3,
  t: 1024 ** 4,
};
const durationUnits: Readonly<Record<string, number>> = {
  ms: 1,
  s: 1000,
  m: 60_000,
  h: 3_600_000,
  d: 86_400_000,
};

/** Parses `512M`, `2G`, `1.5GiB` or plain bytes. Units are powers of 1024, as with docker and qemu. */
export function parseSizeBytes(text: string): number {
  const match = /^(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?$/i.exec(text.trim());
  const bytes = match && Math.round(Number(match[1]) * sizeUnits[match[2]!.toLowerCase()]!);
  if (bytes && Number.isSafeInteger(bytes)) return bytes;
  throw new BangerError('invalid_argument', `"${text}" is not a size`, {
    hint: 'Write sizes like 512M or 8G',
  });
}

/** Parses `500ms`, `30s`, `10m`, `2h` or `1d`. */
export function parseDurationMs(text: string): number {
  const match = /^(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)$/i.exec(text.trim());
  if (match) return Math.round(Number(match[1]) * durationUnits[match[2]!.toLowerCase()]!);
  throw new BangerError('invalid_argument', `"${text}" is not a duration`, {
    hint: 'Write durations like 30s, 10m or 2h',
  });
}

/** `1.5 GiB`: three significant digits at most, for people. */
export function formatBytes(bytes: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let value = bytes;
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit++;
  }
  const digits = unit === 0 || value >= 100 ? 0 : 1;
  return `${value.toFixed(digits).replace(/\.0$/, '')} ${units[unit]}`;
}

/** `2h 30m`: what `parseDurationMs` reads, for people. */
export function formatDuration(milliseconds: number): string {
  const words: string[] = [];
  let rest = milliseconds;
  for (const unit of ['d', 'h', 'm', 's']) {
    const count = Math.floor(rest / durationUnits[unit]!);
    if (count > 0) words.push(`${count}${unit}`);
    rest -= count * durationUnits[unit]!;
  }
  return words.length === 0 ? `${milliseconds}ms` : words.join(' ');
}
