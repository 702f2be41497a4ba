import { expect, test } from 'vitest';
import { loopbackForward } from '../../../src/host/drivers/driver.ts';
import { parseReach } from '../../../src/host/drivers/qemu-control.ts';
import { networkArguments } from '../../../src/host/drivers/qemu-network.ts';

const card = { model: 'virtio-net-pci', options: ',romfile=' };
const forwards = [loopbackForward(4000, 1022)];
const tap = { tap: 'bgt1a2b-1-2', mac: '02:0a:d5:00:00:02', address: '10.213.0.2' };

test('a machine without cards has no network at all', () => {
  expect(networkArguments({}, card)).toEqual([]);
});

test('a user network that reaches nothing lets in what is forwarded, and nothing out', () => {
  const argv = networkArguments({ user: { forwards, reach: 'none' } }, card);
  expect(argv[1]).toBe('user,id=net,ipv6=off,restrict=on,hostfwd=tcp:127.0.0.1:4000-:1022');
});

test('between an only card and the user network is a hub, by which the network can be replaced', () => {
  const argv = networkArguments({ user: { forwards, reach: 'all' } }, card);
  expect(argv).toEqual([
    '-netdev',
    'user,id=net,hostfwd=tcp:127.0.0.1:4000-:1022',
    '-netdev',
    'hubport,id=out,hubid=0,netdev=net',
    '-netdev',
    'hubport,id=card,hubid=0',
    '-device',
    'virtio-net-pci,netdev=card,romfile=',
  ]);
});

test('how far a guest reaches is read from the VMM, and what it does not say is not taken for everything', () => {
  const nic = 'card: virtio-net-pci.0: index=0,type=nic,model=virtio-net-pci,macaddr=52:54:00:12:34:56';
  const inHub = (restrict: string): string =>
    `hub 0\r\n \\ ${nic}\r\n \\ out: net: index=0,type=user,net=10.0.2.0,restrict=${restrict}\r\n`;
  expect(parseReach(inHub('off'))).toEqual({ reach: 'all', canChange: true });
  expect(parseReach(inHub('on'))).toEqual({ reach: 'none', canChange: true });
  expect(parseReach(inHub('maybe'))).toEqual({ reach: 'none', canChange: true });
  expect(parseReach(`hub 0\r\n \\ ${nic}\r\n`)).toBeUndefined();
  const direct = `virtio-net-pci.0: index=0,type=nic\r\n \\ net: index=0,type=user,net=10.0.2.0,restrict=off\r\n`;
  expect(parseReach(direct)).toEqual({ reach: 'all', canChange: false });
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
