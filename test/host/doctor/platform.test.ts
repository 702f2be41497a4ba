import { expect, test } from 'vitest';
import {
  checkArchitecture,
  checkKernel,
  checkMemory,
  checkOpenFiles,
  virtualizationFlags,
} from '../../../src/host/doctor/platform.ts';

test.each([
  ['linux', 'x64', 'pass'],
  ['linux', 'arm64', 'fail'],
  ['darwin', 'x64', 'fail'],
])('%s on %s is a %s', (platform, architecture, status) => {
  expect(checkArchitecture(platform, architecture).status).toBe(status);
});

test.each([
  ['6.1.0-18-amd64', 'pass'],
  ['4.18.0-553.el8', 'pass'],
  ['4.17.19', 'warn'],
  ['3.10.0-1160.el7', 'warn'],
  ['custom', 'skip'],
])('kernel %s is a %s', (release, status) => {
  expect(checkKernel(release).status).toBe(status);
});

test('memory is enough from 1 GiB on', () => {
  expect(checkMemory('MemTotal: 4 kB\nMemAvailable:    1048576 kB\n')).toMatchObject({
    status: 'pass',
    evidence: '1.0 GiB available',
  });
  expect(checkMemory('MemAvailable:    1048575 kB\n')).toMatchObject({
    status: 'warn',
    evidence: '1023 MiB available',
  });
  expect(checkMemory('').status).toBe('skip');
});

test.each([
  ['255', 'warn'],
  ['256', 'pass'],
  ['unlimited', 'pass'],
])('a limit of %s open files is a %s', (soft, status) => {
  const limits = `Limit  Soft Limit  Hard Limit  Units\nMax open files            ${soft}     524288    files\n`;
  expect(checkOpenFiles(limits).status).toBe(status);
});

test('only flags that speak of virtualization are named', () => {
  expect(virtualizationFlags('processor : 0\nflags\t\t: fpu vmx hypervisor svmx\n')).toEqual([
    'vmx',
    'hypervisor',
  ]);
  expect(virtualizationFlags('')).toEqual([]);
});
