import { createSocket } from 'node:dgram';
import { readdirSync, readlinkSync } from 'node:fs';
import { expect, test } from 'vitest';
import { checkPort, openUdpPort } from '../../src/host/ports.ts';

const openSockets = (): number =>
  readdirSync('/proc/self/fd').filter((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`).startsWith('socket:');
    } catch {
      return false; // The one by which they are listed.
    }
  }).length;

test('a UDP port that is taken costs no socket, however often it is asked for', async () => {
  const other = createSocket('udp4');
  await new Promise<void>((resolve) => other.bind(0, '127.0.0.1', resolve));
  const place = { protocol: 'udp', bind: '127.0.0.1', port: other.address().port } as const;
  const before = openSockets();
  for (let attempt = 0; attempt < 10; attempt++) {
    await expect(checkPort(place)).rejects.toMatchObject({ code: 'busy' });
    await expect(openUdpPort(place)).rejects.toMatchObject({ code: 'busy' });
  }
  expect(openSockets()).toBe(before);
  other.close();
  await checkPort(place);
});
