import { expect, test } from 'vitest';
import { waysText } from '../../src/commands/doctor-ways.ts';
import type { BootRow } from '../../src/host/doctor/boot-table.ts';

const usual = { driver: 'qemu', acceleration: 'tcg', disk: 'qcow2', network: 'user' } as const;
const firecracker = { driver: 'firecracker', acceleration: 'kvm', disk: 'copy', network: 'user' } as const;
const phase = (id: string, seconds: number) => ({ id, title: id, seconds });

test('every way is a row, with the seconds of its phases and in all; a reason of several is told once', () => {
  const ways: readonly BootRow[] = [
    {
      ...usual,
      result: 'works',
      reason: '',
      totalSeconds: 6.5,
      phases: [
        phase('prepare', 0.25),
        phase('disk', 0.125),
        phase('vmm', 0.5),
        phase('kernel', 1),
        phase('modules', 0.5),
        phase('root', 0.75),
        phase('network', 0.5),
        phase('ssh', 1),
        phase('handshake', 0.5),
        phase('exec', 0.25),
        phase('power-off', 0.75),
        phase('take-down', 0.25),
      ],
    },
    { ...usual, disk: 'dm-snapshot', result: 'not tried', reason: 'needs root' },
    { ...usual, network: 'none', result: 'fails', reason: 'QEMU ended at once: \u001b[2J' },
    { ...firecracker, result: 'not tried', reason: 'not installed' },
    { ...firecracker, network: 'none', result: 'not tried', reason: 'not installed' },
  ];
  expect(
    waysText(ways)
      .split('\n')
      .map((line) => line.split(/ {2,}/)),
  ).toEqual([
    [
      ...['VMM', 'BY', 'DISK', 'NETWORK', 'RESULT'],
      ...['IMAGE', 'DISK MADE', 'START', 'KERNEL', 'ROOT', 'SSH', 'END', 'TOTAL'],
    ],
    [
      ...['qemu', 'tcg', 'qcow2', 'user', 'works'],
      ...['0.25', '0.13', '0.50', '1.50', '0.75', '2.25', '1.00', '6.50'],
    ],
    ['qemu', 'tcg', 'dm-snapshot', 'user', 'not tried (1)'],
    ['qemu', 'tcg', 'qcow2', 'none', 'fails (2)'],
    ['firecracker', 'kvm', 'copy', 'user', 'not tried (3)'],
    ['firecracker', 'kvm', 'copy', 'none', 'not tried (3)'],
    ['(1) needs root'],
    [expect.stringMatching(/^\(2\) QEMU ended at once: [ -~]+$/)],
    ['(3) not installed'],
  ]);
});

test('where every way works there is nothing below the table', () => {
  expect(waysText([{ ...usual, result: 'works', reason: '', totalSeconds: 1, phases: [] }])).toMatch(
    /1\.00$/,
  );
});
