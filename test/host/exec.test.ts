import { expect, onTestFinished, test, vi } from 'vitest';
import { exec } from '../../src/host/exec.ts';

test('a program that fails is reported with its exit code and its own words', async () => {
  await expect(exec(['sh', '-c', 'echo it broke >&2; exit 3'])).rejects.toThrow(/exited with 3: it broke/);
  expect((await exec(['sh', '-c', 'exit 3'], { okExitCodes: [3] })).exitCode).toBe(3);
});

test('what a program says is in words that we know, whatever the language of the user', async () => {
  vi.stubEnv('LC_ALL', 'de_DE.UTF-8');
  vi.stubEnv('OTHER', 'kept');
  onTestFinished(() => void vi.unstubAllEnvs());
  const script = '[ "$LC_ALL" = C ] && echo "$OTHER" || echo Gerät ist belegt';
  expect((await exec(['sh', '-c', script])).stdout.toString()).toBe('kept\n');
  const env = { PATH: process.env['PATH'], LC_ALL: 'mine' };
  expect((await exec(['sh', '-c', 'echo "$LC_ALL"'], { env })).stdout.toString()).toBe('mine\n');
});

test('a program that is not installed is the host lacking something, with what to do', async () => {
  await expect(exec(['no-such-program'])).rejects.toMatchObject({ code: 'host_unsupported' });
});

test('a program that takes too long, prints too much or is cancelled is ended', async () => {
  await expect(exec(['sleep', '60'], { timeoutMs: 50 })).rejects.toMatchObject({ code: 'timeout' });
  await expect(exec(['yes'], { maxOutputBytes: 1000 })).rejects.toThrow('printed more than it should');
  const cancel = new AbortController();
  setTimeout(() => cancel.abort(), 50);
  await expect(exec(['sleep', '60'], { signal: cancel.signal })).rejects.toMatchObject({
    code: 'cancelled',
  });
  await expect(exec(['sleep', '60'], { signal: AbortSignal.timeout(50) })).rejects.toMatchObject({
    code: 'timeout',
  });
});
