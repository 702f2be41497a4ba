import { expect, test } from 'vitest';
import { loopbackForward } from '../../../src/host/drivers/driver.ts';
import { networkArguments } from '../../../src/host/drivers/qemu-network.ts';

const card = { model: 'virtio-net-pci', options: ',romfile=' };
const forwards = [loopbackForward(4000, 1022)];
const tap = { tap: 'bgt1a2b-1-2', mac: '02:0a:d5:00:00:02' };

test('a machine without cards has no network at all', () => {
  expect(networkArguments({}, card)).toEqual([]);
});

test('a user network that reaches nothing lets in what is forwarded, and nothing out', () => {
  const argv = networkArguments({ user: { forwards, reach: 'none' } }, card);
  expect(argv[1]).toBe('user,id=net,restrict=on,hostfwd=tcp:127.0.0.1:4000-:1022');
});

test('a tap is opened by its name, without scripts, and its card has the MAC', () => {
  expect(networkArguments({ tap }, card)).toEqual([
    '-netdev',
    'tap,id=tap,ifname=bgt1a2b-1-2,script=no,downscript=no',
    '-device',
    'virtio-net-pci,netdev=tap,mac=02:0a:d5:00:00:02,romfile=',
  ]);
});

test('beside a tap, the user network has link-local addresses of its own and no IPv6', () => {
  const argv = networkArguments({ tap, user: { forwards, reach: 'none' } }, card);
  expect(argv[1]).toBe(
    'user,id=net,net=169.254.77.0/24,host=169.254.77.2,dhcpstart=169.254.77.15,ipv6=off,restrict=on,hostfwd=tcp:127.0.0.1:4000-:1022',
  );
  const devices = argv.filter((word) => word.startsWith('virtio-net'));
  expect(devices.map((word) => /netdev=(\w+)/.exec(word)![1])).toEqual(['tap', 'net']);
  expect(devices[1]).toContain('mac=02:00:00:00:00:01');
});
