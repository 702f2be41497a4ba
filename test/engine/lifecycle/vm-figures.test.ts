import { expect, test } from 'vitest';
import { parseListeners } from '../../../src/engine/lifecycle/vm-ports.ts';
import { parseGuestFigures } from '../../../src/engine/lifecycle/vm-stats.ts';
import { parseForwardRules, parseForwardTable } from '../../../src/host/drivers/qemu-control.ts';

const listenersText = `table tcp
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 700 1 0 100 0 0 10 0
   1: 00000000:03FE 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 701 1 0 100 0 0 10 0
   2: 0F02000A:03FE 0202000A:A1B2 01 00000000:00000000 00:00000000 00000000     0        0 702 1 0 100 0 0 10 0
table tcp6
   0: 00000000000000000000000001000000:0050 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 703
table udp
  10: 00000000:0035 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 704 2 0 0
table udp6
process 12 my server
total 0
lrwx------    1 root     root            64 Jan  1 00:00 3 -> socket:[700]
lrwx------    1 root     root            64 Jan  1 00:00 4 -> socket:[704]
process 13 other
lrwx------    1 root     root            64 Jan  1 00:00 3 -> socket:[700]
`;

test('listeners are told by port, with the first process that has them; connections are not', () => {
  expect(parseListeners(listenersText)).toEqual([
    { protocol: 'udp', address: '0.0.0.0', port: 53, pid: 12, process: 'my server' },
    { protocol: 'tcp', address: '::1', port: 80 },
    { protocol: 'tcp', address: '0.0.0.0', port: 1022 },
    { protocol: 'tcp', address: '127.0.0.1', port: 8080, pid: 12, process: 'my server' },
  ]);
});

test('what a hostile guest prints instead is no listener and no crash', () => {
  expect(
    parseListeners(
      'table tcp\n 0: zz:0050 x 0A\n 1:\n 2: 01:0050 x 0A\nprocess\nprocess x\n -> socket:[1]\n',
    ),
  ).toEqual([]);
});

const figures = `0.10 0.20 0.30 1/60 123
banger-next
MemTotal:         200000 kB
MemFree:           50000 kB
MemAvailable:     100000 kB
banger-next
Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo:    9999       1    0    0    0     0          0         0     9999       1    0    0    0     0       0          0
  eth0:    1000       1    0    0    0     0          0         0      500       1    0    0    0     0       0          0
banger-next
Filesystem           1024-blocks    Used Available Capacity Mounted on
/dev/vda               8000    1000      7000  12% /
`;

test('a guest’s figures are read, its loopback left out; nonsense is refused', () => {
  expect(parseGuestFigures(figures)).toEqual({
    load: [0.1, 0.2, 0.3],
    memoryTotalBytes: 204_800_000,
    memoryAvailableBytes: 102_400_000,
    diskTotalBytes: 8_192_000,
    diskUsedBytes: 1_024_000,
    receivedBytes: 1000,
    sentBytes: 500,
  });
  expect(() => parseGuestFigures('nothing of the kind')).toThrow('make no sense');
});

test('forwards are read from the command line and from the monitor', () => {
  const tcp = { protocol: 'tcp', bind: '127.0.0.1', hostPort: 8080, guestPort: 80 };
  const udp = { protocol: 'udp', bind: '0.0.0.0', hostPort: 53, guestPort: 53 };
  expect(parseForwardRules('user,id=net,hostfwd=tcp:127.0.0.1:8080-:80,hostfwd=udp:0.0.0.0:53-:53')).toEqual([
    tcp,
    udp,
  ]);
  const table = `Hub -1 (net):\r
  Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ SendQ\r
  TCP[ESTABLISHED]    9       127.0.0.1 40000       10.0.2.15    80     0     0\r
  TCP[HOST_FORWARD]   8       127.0.0.1  8080       10.0.2.15    80     0     0\r
  UDP[HOST_FORWARD]  14               *    53       10.0.2.15    53     0     0\r
`;
  expect(parseForwardTable(table)).toEqual([tcp, udp]);
});
