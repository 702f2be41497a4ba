import { beforeAll, afterAll, describe, expect, test } from 'vitest';
import type { BootRow } from '../../src/host/doctor/boot-table.ts';
import { until } from '../support/banger.ts';
import { isLabWanted, labSkipReason, openLab, type Lab } from '../support/lab.ts';

/** banger on a host with a KVM that works and with device-mapper. */
if (isLabWanted) describe('in a lab VM', labTests);
else
  test('QEMU on KVM and disks by device-mapper, in a lab VM', ({ skip }) =>
    skip(labSkipReason('many minutes')));

function labTests(): void {
  let lab: Lab;

  /** Runs banger in the lab */
  const inner = (command: string): Promise<string> =>
    lab.root(`BANGER_HOME=/root/b; export BANGER_HOME; ${command}`);

  beforeAll(async () => {
    lab = await openLab();
    // A boot probe's three seconds are not enough where everything is emulated twice.
    const config = '[vmm]\naccel = "kvm"\ndriver = "qemu"\n[disk]\nmethod = "dm-snapshot"\n';
    await lab.root(`mkdir -p /root/b && printf '%s' '${config}' > /root/b/config.toml`);
  }, 900_000);
  afterAll(() => lab?.[Symbol.asyncDispose](), 120_000);

  test('a guest boots on KVM, on a disk that is a snapshot by device-mapper', async () => {
    await inner('banger vm create --name inner --memory 256M --cpus 1');
    const shown = JSON.parse(await inner('banger vm show inner --json')) as Record<string, string>;
    expect([shown['vmm'], shown['diskMethod']]).toEqual(['qemu (kvm)', 'dm-snapshot']);
    expect(await inner('dmsetup ls | wc -l; losetup -l --noheadings | wc -l')).toBe('2\n2');
    expect(await inner('banger vm exec inner -- sh -c "echo kept > /kept; sync; cat /kept"')).toBe('kept');
  }, 600_000);

  test('the engine is killed, and the next one finds the VM', async () => {
    const { pid } = JSON.parse(await inner('banger engine status --json')) as { pid: number };
    await inner(`kill -9 ${pid}`);
    expect(await inner('banger vm exec inner -- cat /kept')).toBe('kept');
    await inner('banger vm pause inner; banger vm resume inner');
    expect(await inner('banger vm exec inner -- echo goes on')).toBe('goes on');
  }, 600_000);

  test('stopped, nothing of its devices is left; started again, the disk is larger and has what it had', async () => {
    expect(await inner('banger vm set --disk 9G inner 2>&1')).toContain('disk');
    await inner('banger vm stop --timeout 60s inner');
    expect(await inner('dmsetup ls; losetup -l --noheadings')).toBe('No devices found');
    await inner('banger vm start inner');
    expect(await inner('banger vm exec inner -- cat /kept')).toBe('kept');
    expect(
      Number(await inner('banger vm exec inner -- df -m / | tail -1 | tr -s " " | cut -d " " -f 2')),
    ).toBeGreaterThan(8500);
  }, 600_000);

  test('a VMM that is killed leaves no device either, and a VM that is deleted no file', async () => {
    await inner('pkill -9 qemu-system');
    // Its devices are taken down before that is told.
    await until('its end is seen, and its devices are gone', async () => {
      const [vm] = JSON.parse(await inner('banger vm list --json')) as { state: string }[];
      return vm?.state === 'stopped';
    });
    expect(await inner('dmsetup ls; losetup -l --noheadings')).toBe('No devices found');
    await inner('banger vm delete inner');
    expect(await inner('ls /root/b/state/vms')).toBe('');
  }, 600_000);

  test('doctor boots a VM in every way that there is here, and says why not in the others', async () => {
    const { ways } = JSON.parse(await inner('banger doctor --boot --json')) as { ways: BootRow[] };
    const onKvm = ways.filter(({ driver, acceleration }) => driver === 'qemu' && acceleration === 'kvm');
    const told = onKvm.map(({ disk, network, result }) => `${disk}, ${network}: ${result}`);
    expect(told).toEqual([
      'qcow2, user: works',
      'qcow2, none: works',
      'reflink, user: not tried',
      'reflink, none: not tried',
      'copy, user: works',
      'copy, none: works',
      'dm-snapshot, user: works',
      'dm-snapshot, none: works',
      'qcow2, bridge: not tried',
    ]);
    const works = ways.filter(({ result }) => result === 'works');
    expect(works.every(({ phases = [] }) => phases.some(({ id }) => id === 'exec'))).toBe(true);
    expect(ways.filter(({ result, reason }) => result !== 'works' && reason === '')).toEqual([]);
    expect(await inner('dmsetup ls; losetup -l --noheadings')).toBe('No devices found');
  }, 900_000);
}
