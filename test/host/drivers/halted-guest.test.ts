import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { appendFileSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate as turn } from 'node:timers/promises';
import { expect, onTestFinished, test } from 'vitest';
import { endHaltedGuest, hasHalted } from '../../../src/host/drivers/firecracker/halted-guest.ts';
import { identifyProcess } from '../../../src/host/process.ts';

test('a console that is flooded is looked at now and then, and its last line is not missed', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'banger-test-'));
  onTestFinished(() => rmSync(directory, { recursive: true, force: true }));
  const consoleLog = join(directory, 'console');
  writeFileSync(consoleLog, '');
  const child = spawn('sleep', ['60'], { stdio: 'ignore' });
  onTestFinished(() => void child.kill('SIGKILL'));
  const ended = once(child, 'exit');

  let looks = 0;
  const vmm = { process: identifyProcess(child.pid!)!, consoleLog };
  const stop = endHaltedGuest(vmm, (one) => (looks++, hasHalted(one)));
  onTestFinished(stop);
  const begun = performance.now();
  // Each is a write of its own, and the watch is served in between.
  for (let count = 0; count < 3_000; count++) {
    appendFileSync(consoleLog, count % 80 === 0 ? '\n' : '.');
    await turn();
  }
  expect(looks).toBeLessThanOrEqual((performance.now() - begun) / 100 + 2);

  appendFileSync(consoleLog, '\n[    3.100000] reboot: System halted\n');
  expect(await ended).toEqual([null, 'SIGKILL']);
});
