import { expect, test } from 'vitest';
import { countOomKills, vmmDeathText } from '../../../src/engine/lifecycle/vmm-death.ts';

const death = { lastLine: '', signal: undefined, oomKills: 0, memoryMib: 512 };

test('one that was killed is told by its signal', () => {
  expect(vmmDeathText({ ...death, signal: 'SIGKILL' })).toBe('The VMM was killed from outside by SIGKILL');
  expect(vmmDeathText({ ...death, signal: 'SIGSEGV' })).toBe('The VMM ended by itself, by SIGSEGV');
});

test('one that was killed when memory ran out is told so, with the way out', () => {
  const text = vmmDeathText({ ...death, signal: 'SIGKILL', oomKills: 1 });
  expect(text).toContain('was killed by SIGKILL after the host, or its memory limit, had run out of memory');
  expect(text).toContain('(the kernel ended 1 process); the VM has 512 MiB: give it less');
  expect(vmmDeathText({ ...death, oomKills: 2 })).toContain('2 processes');
});

test('memory is not blamed for a crash, nor for what the VMM explains itself', () => {
  expect(vmmDeathText({ ...death, signal: 'SIGSEGV', oomKills: 1 })).not.toContain('memory');
  expect(vmmDeathText({ ...death, lastLine: 'qemu: no', oomKills: 1 })).toBe(
    'The VMM ended by itself: qemu: no',
  );
});

test('the kernel counts what it has killed', async () => {
  expect(Number.isInteger(await countOomKills())).toBe(true);
});
