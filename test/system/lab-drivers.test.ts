import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { openKvmLab, type KvmLab, type LabTest } from '../support/kvm-lab.ts';
import { isLabWanted, isQuickLabWanted, labSkipReason } from '../support/lab.ts';

/** Tests of drivers, run once more where what they are about is there: KVM, and control groups of version 2. */
if (isQuickLabWanted) describe('in a VM whose KVM works', labTests);
else
  test('QEMU on KVM, and limits by control groups of version 2, in a VM whose KVM works', ({ skip }) =>
    skip(labSkipReason('minutes')));

function labTests(): void {
  let lab: KvmLab;
  /** Of the list of drivers, by its columns */
  let listed: readonly LabTest[];

  beforeAll(async () => {
    lab = await openKvmLab();
  }, 300_000);
  afterAll(() => lab?.[Symbol.asyncDispose](), 120_000);

  const column = (title: string) => listed.filter(({ suite }) => suite === title);
  const namesOf = (tests: readonly LabTest[]) => tests.map(({ name }) => name);

  test('QEMU on KVM does what drivers do', async () => {
    listed = await lab.tests('test/system/drivers.test.ts', '^(QEMU on KVM|Firecracker) ');
    const onKvm = column('QEMU on KVM');
    expect(onKvm.flatMap(({ complaint }) => complaint ?? [])).toEqual([]);
    const passed = onKvm.filter(({ status }) => status === 'passed');
    const emulating = 'without KVM, where the VMM emulates nothing';
    const asked = namesOf(column('QEMU by emulation')).filter((name) => !name.endsWith(emulating));
    expect(asked.length).toBeGreaterThan(20);
    expect(namesOf(passed)).toEqual(asked);
  }, 1_200_000);

  test('and so does the Firecracker that BANGER_TEST_FIRECRACKER names', ({ skip }) => {
    if (!process.env['BANGER_TEST_FIRECRACKER']) skip('BANGER_TEST_FIRECRACKER names none');
    const firecracker = column('Firecracker');
    expect(firecracker.flatMap(({ complaint }) => complaint ?? [])).toEqual([]);
    expect(firecracker.filter(({ status }) => status === 'passed').length).toBeGreaterThan(20);
  });

  test('a jailed VMM is held to what its guest has, and its group goes with it', async ({ skip }) => {
    if (!isLabWanted) skip(labSkipReason('a minute more'));
    const title = 'may use as much as its guest has';
    const tests = await lab.tests('test/host/drivers/firecracker-jailed.test.ts', title);
    expect(tests.flatMap(({ complaint }) => complaint ?? [])).toEqual([]);
    const passed = tests.filter(({ status }) => status === 'passed');
    expect(namesOf(passed)).toEqual([expect.stringContaining(title)]);
    expect(await lab.root('ls /sys/fs/cgroup')).not.toContain('banger');
  }, 600_000);
}
