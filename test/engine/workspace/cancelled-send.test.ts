import { Readable } from 'node:stream';
import { expect, test } from 'vitest';
import { copyIn } from '../../../src/engine/copy/guest-files.ts';
import type { Guest } from '../../../src/engine/guest.ts';
import { runScript } from '../../../src/engine/workspace/sending/send-tree.ts';
import type { Vm } from '../../../src/state/vms.ts';
import { fakeOperation } from '../../support/fakes.ts';

/** A guest whose tar complains that its input ended too early, after `cancel`. */
function complainingGuest(cancel: () => void): Guest {
  return {
    runToolbox: async () => {
      // It has not read anything yet: the error of its input is nobody's to hear.
      cancel();
      return { exit: { code: 1 }, stdout: Buffer.alloc(0), stderr: 'tar: short read\n' };
    },
  } as unknown as Guest;
}

test('a tree whose sending was cancelled is told as that, whatever the guest makes of it', async () => {
  const stop = new AbortController();
  const guest = complainingGuest(() => stop.abort());
  const options = { signal: stop.signal, input: Readable.from([Buffer.alloc(1)]) };
  const place = { guest, guestPath: '/root/tree', vmName: 'web' } as Parameters<typeof runScript>[0];
  await expect(runScript(place, 'true', options)).rejects.toMatchObject({ code: 'cancelled' });
  const full = { signal: new AbortController().signal, input: Readable.from([Buffer.alloc(1)]) };
  await expect(runScript(place, 'true', full)).rejects.toThrow('cannot hold "/root/tree": tar: short read');
});

test('so are files', async () => {
  const { operation, cancel } = fakeOperation();
  const guest = complainingGuest(cancel);
  const context = { guest: async () => guest } as unknown as Parameters<typeof copyIn>[0];
  const vm = { name: 'web', state: 'running' } as Vm;
  const request = { vm, path: '/srv', as: 'directory', follow: false } as Parameters<typeof copyIn>[1];
  const stream = { onFrame: () => undefined, send: async () => undefined };
  await expect(copyIn(context, request, { operation, stream })).rejects.toMatchObject({ code: 'cancelled' });
});
