import { expect, test } from 'vitest';
import { parseConfig } from '../../src/state/config.ts';
import { formatBytes, parseDurationMs, parseSizeBytes } from '../../src/state/units.ts';

test('no file means defaults', () => {
  expect(parseConfig('', 'c')).toMatchObject({ image: 'base', accel: 'auto', engineIdleTimeoutMs: 600_000 });
});

test('values are read with their units', () => {
  const config = parseConfig('[vm]\nmemory = "512M"\ncpus = 2\n[engine]\nidle_timeout = "30s"\n', 'c');
  expect(config).toMatchObject({ memoryBytes: 512 * 1024 ** 2, cpus: 2, engineIdleTimeoutMs: 30_000 });
});

test('Firecracker is jailed where that is possible, always or never', () => {
  expect(parseConfig('', 'c').firecrackerJailer).toBe('auto');
  expect(parseConfig('[vmm]\njailer = "always"\n', 'c').firecrackerJailer).toBe('always');
  expect(() => parseConfig('[vmm]\njailer = "sometimes"\n', '/c.toml')).toThrow('"/c.toml": "vmm.jailer"');
});

test('VMs run by Firecracker, by QEMU, or by what works best, and by nothing else', () => {
  expect(parseConfig('', 'c').vmmDriver).toBe('auto');
  for (const driver of ['auto', 'firecracker', 'qemu'])
    expect(parseConfig(`[vmm]\ndriver = "${driver}"\n`, 'c').vmmDriver).toBe(driver);
  expect(() => parseConfig('[vmm]\ndriver = "xen"\n', '/c.toml')).toThrow('"/c.toml": "vmm.driver"');
});

test('what a disk may move in a second has no limit unless there is one, and none that no guest boots with', () => {
  expect(parseConfig('', 'c').diskBytesPerSecond).toBeUndefined();
  expect(parseConfig('[disk]\nrate = "100M"\n', 'c').diskBytesPerSecond).toBe(100 * 1024 ** 2);
  expect(() => parseConfig('[disk]\nrate = "4K"\n', '/c.toml')).toThrow(
    '"/c.toml": "disk.rate": is less than 1M',
  );
});

test('an unknown key is an error that names it', () => {
  expect(() => parseConfig('[vm]\nmemroy = "1G"\n', '/c.toml')).toThrow('"/c.toml": unknown key "vm.memroy"');
});

test('a value of the wrong kind is an error that names key and file', () => {
  expect(() => parseConfig('[vm]\ncpus = 0\n', '/c.toml')).toThrow('"/c.toml": "vm.cpus"');
  expect(() => parseConfig('[vm]\nmemory = "lots"\n', '/c.toml')).toThrow(/"\/c.toml": "vm.memory".*"lots"/);
});

test('what is not TOML is an error with its line', () => {
  expect(() => parseConfig('[vm]\ncpus = = 1\n', '/c.toml')).toThrow('"/c.toml" line 2');
});

test.each([
  ['512M', 512 * 1024 ** 2],
  ['2G', 2 * 1024 ** 3],
  ['1.5GiB', 1.5 * 1024 ** 3],
  ['4096', 4096],
])('the size %s is %d bytes', (text, bytes) => expect(parseSizeBytes(text)).toBe(bytes));

test.each(['', '-1G', '1X', 'G', '0'])('"%s" is not a size', (text) =>
  expect(() => parseSizeBytes(text)).toThrow(),
);

test('durations and sizes read well', () => {
  expect(parseDurationMs('1.5h')).toBe(5_400_000);
  expect([0, 1023, 1536, 8 * 1024 ** 3].map(formatBytes)).toEqual(['0 B', '1023 B', '1.5 KiB', '8 GiB']);
});
