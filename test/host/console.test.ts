import { appendFileSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { findReadyLine, waitForReady } from '../../src/host/console.ts';

let directory: string;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'banger-host-'));
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

const line =
  'banger-ready v=1 kernel=1.52 modules=1.60 root=1.80 network=1.79 ssh=1.85 init=image shell=/bin/bash boot_id=abc';

const signal = new AbortController().signal;

test('the ready line is found among the noise of a console, and only in its own shape', () => {
  const ready = findReadyLine(`[    0.1] noise\r\n${line}\r\nlogin: `);
  expect(ready).toMatchObject({
    protocol: 1,
    bootId: 'abc',
    init: 'image',
    hasShell: true,
    phases: { kernel: 1.52, ssh: 1.85 },
  });
  expect(findReadyLine(`not ${line}`)).toBeUndefined();
  expect(findReadyLine(line)).toBeUndefined();
  expect(findReadyLine(`${line.replace('v=1', 'v=17')}\n`)?.protocol).toBe(17);
  expect(findReadyLine(`${line.replace('v=1', 'v=new')}\n`)).toBeUndefined();
});

test('a guest that reports an error, or ends, is told with its own words', async () => {
  const path = join(directory, 'console');
  const wait = (hasExited: boolean) =>
    waitForReady(path, { timeoutMs: 100, signal, hasExited: () => hasExited });
  writeFileSync(path, 'banger-error stage=root cannot mount /dev/vda\n');
  await expect(wait(true)).rejects.toThrow('The guest stopped at "root": cannot mount /dev/vda');
  writeFileSync(path, 'one\n\u001b[31mKernel panic\u001b[0m - not syncing\n');
  await expect(wait(true)).rejects.toThrow('its console ends with: one | Kernel panic - not syncing');
  await expect(wait(false)).rejects.toMatchObject({ code: 'timeout' });
});

test('the ready line is found behind a flood, in lines without end, and cut into pieces anywhere', async () => {
  const path = join(directory, 'console');
  const wait = () => waitForReady(path, { timeoutMs: 20_000, signal, hasExited: () => false });
  for (let shift = 0; shift < line.length + 2; shift += 16) {
    // Pieces of 64 KiB are read; the line straddles their seam.
    writeFileSync(path, `${'x'.repeat(3 * 65_536 - shift)}\n${line}\n`);
    await expect(wait()).resolves.toMatchObject({ bootId: 'abc' });
  }
  writeFileSync(path, `${'noise\n'.repeat(2_000_000)}${line}\n`);
  await expect(wait()).resolves.toMatchObject({ bootId: 'abc' });
});

test('words in the midst of a line without end are no ready line', async () => {
  const path = join(directory, 'console');
  writeFileSync(path, 'x'.repeat(65_536));
  appendFileSync(path, `${line}\n`);
  await expect(waitForReady(path, { timeoutMs: 1000, signal, hasExited: () => true })).rejects.toMatchObject({
    code: 'guest_unreachable',
  });
});

test('a guest that floods its console is given up', async () => {
  const path = join(directory, 'console');
  writeFileSync(path, Buffer.alloc(17 * 1024 * 1024, 'flood\n'));
  await expect(waitForReady(path, { timeoutMs: 20_000, signal, hasExited: () => false })).rejects.toThrow(
    'flooded its console',
  );
});
