import { expect, test } from 'vitest';
import { GuestPool } from '../../src/engine/guest-pool.ts';
import { HandleCache } from '../../src/engine/handles.ts';
import type { Vm } from '../../src/state/vms.ts';

test('who has given up already begins no handshake, whose failure nobody would hear of', async () => {
  const handles = new HandleCache(() => '/nowhere');
  handles.adopt('web', {
    process: { pid: 1, startTime: '1', bootId: 'b' },
    acceleration: 'tcg',
    driver: 'qemu',
    sshPort: 4242,
  });
  let dials = 0;
  const pool = new GuestPool(handles, () => {
    dials++;
    return Promise.reject(new Error('no key'));
  });
  const vm = { id: 'web', name: 'web' } as Vm;
  await expect(pool.guest(vm, AbortSignal.abort())).rejects.toMatchObject({ code: 'cancelled' });
  expect(dials).toBe(0);
  await expect(pool.guest(vm, new AbortController().signal)).rejects.toThrow('no key');
});
