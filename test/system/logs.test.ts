import { readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { collect, openBanger, until } from '../support/banger.ts';

const banger = openBanger();
afterAll(() => banger[Symbol.asyncDispose]());

const mib = 1024 * 1024;
const limit = 256 * 1024;

test('a guest that floods its console leaves a bounded log; readers, VM and engine go on', async () => {
  banger.configure('[vm]\nmemory = "256M"\n\n[engine]\nlog_size = "256K"\n');
  await banger.ok(['vm', 'create', '--name', 'web']);
  const { id } = await banger.json<{ id: string }>('vm', 'show', 'web');
  const log = join(banger.home, 'state/vms', id, 'console.log');
  const size = (path: string): number => statSync(path, { throwIfNoEntry: false })?.size ?? 0;

  const following = collect(banger.start(['vm', 'logs', 'web', '-f', '--tail', '0']));
  const flood = "yes 'a flood of words' | head -c 1700000 > /dev/ttyS0; printf '\\nthe end\\n' > /dev/ttyS0";
  let isOver = false;
  const flooding = banger.guest('web', flood).finally(() => (isOver = true));
  let largest = 0;
  await until(
    'the flood is over',
    () => {
      largest = Math.max(largest, size(log));
      return isOver;
    },
    90_000,
  );
  await flooding;
  expect(await banger.guest('web', 'echo up')).toBe('up');
  await until('the log is cut', () => size(log) <= limit);
  expect(size(`${log}.1`)).toBeGreaterThan(0);
  expect(size(`${log}.1`)).toBeLessThan(mib);
  expect(largest).toBeLessThan(mib);
  expect((await banger.ok(['vm', 'logs', 'web', '--tail', '3'])).split('\n')).toContain('the end\r');

  await banger.ok(['vm', 'stop', 'web']);
  const { code, stdout } = await following;
  expect(code).toBe(0);
  expect(stdout).toContain('the end');
  expect(stdout.length).toBeGreaterThan(1_600_000);
}, 150_000);

test('an engine that was killed finds the VM, and cuts what grew meanwhile', async () => {
  await banger.ok(['vm', 'start', 'web']);
  const { id } = await banger.json<{ id: string }>('vm', 'show', 'web');
  const log = join(banger.home, 'state/vms', id, 'console.log');
  const pid = (await banger.enginePid())!;
  await banger.guest('web', "(sleep 1; yes 'nobody looks' | head -c 600000 > /dev/ttyS0) > /dev/null 2>&1 &");
  process.kill(pid, 'SIGKILL');
  await until('the log has grown', () => statSync(log).size > limit);
  expect(await banger.guest('web', 'echo up')).toBe('up');
  await until('the log is cut', () => statSync(log).size <= limit);
  expect(readFileSync(`${log}.1`, 'utf8')).toContain('nobody looks');
}, 120_000);

test('what the engine noted about a VM is told, in words or as JSON', async () => {
  await banger.guest('web', '(sleep 1; poweroff -f) > /dev/null 2>&1 &');
  const { code, stdout } = await banger.run(['vm', 'logs', 'web', '--source', 'engine', '-f']);
  expect(code).toBe(0);
  expect(stdout).toMatch(/^\S+Z info VM ended by itself: .*$/m);
  const asJson = await banger.json<{ entries: { message: string }[] }>(
    'vm',
    'logs',
    'web',
    '--source',
    'engine',
  );
  expect(asJson.entries.at(-1)!.message).toContain('VM ended by itself');
}, 60_000);
