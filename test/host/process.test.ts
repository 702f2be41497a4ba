import { spawn } from 'node:child_process';
import { expect, test } from 'vitest';
import { identifyProcess, isAlive, killProcess, signalProcess } from '../../src/host/process.ts';

test('a process is known by its start time too: another with its pid is not touched', async () => {
  const child = spawn('sleep', ['60'], { stdio: 'ignore' });
  const identity = identifyProcess(child.pid!)!;
  expect(isAlive(identity)).toBe(true);
  const impostor = { ...identity, startTime: '1' };
  expect(signalProcess(impostor, 'SIGKILL')).toBe(false);
  expect(isAlive({ ...identity, bootId: 'another boot' })).toBe(false);
  expect(isAlive(identity)).toBe(true);
  await killProcess(identity);
  expect(isAlive(identity)).toBe(false);
});
