import { spawn } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterEach, beforeEach, expect, onTestFinished, test, vi } from 'vitest';
import { errorText } from '../../src/errors.ts';
import { dmSnapshot } from '../../src/host/disks/dm-snapshot.ts';
import { exec } from '../../src/host/exec.ts';
import { identifyProcess, isAlive, killProcess } from '../../src/host/process.ts';
import {
  makeTrialPlace,
  removeLeftTrials,
  removeTrialPlace,
  removeTrialPlaceNow,
} from '../../src/host/trial-place.ts';
import { fakeDevices } from '../support/fake-devices.ts';
import { writeFakeQemu } from './doctor/fake-qemu.ts';

let root: string;
let failures: string[];
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'banger-trials-'));
  failures = [];
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

const removeLeft = (run = exec) =>
  removeLeftTrials(run, [root, join(root, 'missing')], (_, error) => void failures.push(errorText(error)));

/** A place whose owner has ended: its note says who that was. */
function leftPlace(): string {
  const { directory } = makeTrialPlace(root, 'doctor');
  const note = join(directory, 'owner.json');
  writeFileSync(note, readFileSync(note, 'utf8').replace(/"startTime":"\d+"/, '"startTime":"1"'));
  return directory;
}

test('what a probe was about when its engine was killed is ended and removed by the next one', async () => {
  const qemu = writeFakeQemu(root, 'hangs');
  writeFileSync(join(root, 'kvm'), '');
  const script = join(root, 'program.ts');
  writeFileSync(
    script,
    `import { exec } from ${JSON.stringify(resolve('src/host/exec.ts'))};
     import { probedQemu, probeKvm } from ${JSON.stringify(resolve('src/host/kvm-probe.ts'))};
     await probeKvm({
       exec, vmm: probedQemu(${JSON.stringify(qemu)}), guestId: 'guest', timeoutMs: 600_000,
       kernel: async () => '/kernel', initrd: async () => '/initrd',
       temporaryDirectory: ${JSON.stringify(root)}, device: ${JSON.stringify(join(root, 'kvm'))},
     });`,
  );
  const engine = identifyProcess(spawn(process.execPath, [script], { stdio: 'inherit' }).pid!)!;
  onTestFinished(() => killProcess(engine));
  const places = () => readdirSync(root).filter((name) => /^(?:banger-probe-|\.p-)/.test(name));
  const hasStarted = () => expect(existsSync(`${qemu}.pid`) && places()).toHaveLength(2);
  await vi.waitFor(hasStarted, 60_000);
  const vmm = identifyProcess(Number(readFileSync(`${qemu}.pid`, 'utf8')))!;

  await removeLeft();
  expect(isAlive(vmm)).toBe(true);
  await killProcess(engine);
  expect(isAlive(vmm)).toBe(true);
  await removeLeft();
  expect(isAlive(vmm)).toBe(false);
  expect(places()).toEqual([]);
  expect(failures).toEqual([]);
});

test('one whose owner lives, or is not seen from here, is left, and so is what is not ours to know', async () => {
  const mine = makeTrialPlace(root, 'disk').directory;
  const far = leftPlace();
  const note = join(far, 'owner.json');
  writeFileSync(note, readFileSync(note, 'utf8').replace(/pid:\[\d+\]/, 'pid:[1]'));
  mkdirSync(join(root, 'banger-doctor-unknown'));
  writeFileSync(join(root, 'banger-probe-file'), '');
  const before = readdirSync(root);
  await removeLeft();
  expect(readdirSync(root)).toEqual(before);
  await removeTrialPlace(exec, mine);
  expect(existsSync(mine)).toBe(false);
});

test('devices outlive a command that is ended, and are removed by the next one when nobody holds them', async () => {
  const devices = fakeDevices();
  const directory = leftPlace();
  const vm = join(directory, 'vm');
  mkdirSync(vm);
  const disk = {
    id: 'x',
    path: join(vm, 'disk'),
    backing: join(vm, 'rootfs'),
    imageBytes: 4096,
    sizeBytes: 4096,
  };
  for (const path of [disk.path, disk.backing]) writeFileSync(path, 'x'.repeat(4096));
  await dmSnapshot(devices.exec).attach(disk);

  removeTrialPlaceNow(directory);
  expect(existsSync(directory)).toBe(true);
  devices.failAt(0, { isDone: false, isLast: true });
  await removeLeft(devices.exec);
  expect(failures).toEqual(['told to fail']);
  expect(existsSync(directory)).toBe(true);
  devices.failAt(Infinity, { isDone: false, isLast: false });
  await removeLeft(devices.exec);
  expect([...devices.mappings.keys(), ...devices.loops.keys()]).toEqual([]);
  expect(existsSync(directory)).toBe(false);
});

test('two at once have names of their own', () => {
  const ids = [makeTrialPlace(root, 'doctor').id, makeTrialPlace(root, 'doctor').id];
  expect(new Set(ids).size).toBe(2);
});
