import { randomBytes } from 'node:crypto';
import {
  appendFileSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { once } from 'node:events';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, onTestFinished, test, vi } from 'vitest';
import type { RunningVmm, VmmControl } from '../../../src/host/drivers/driver.ts';
import { firecrackerDriver } from '../../../src/host/drivers/firecracker.ts';
import type { FirecrackerSpec } from '../../../src/host/drivers/firecracker/machine.ts';
import { openVmmLog, standardErrorPath } from '../../../src/host/drivers/vmm-process.ts';
import { isAlive, killProcess, type ProcessIdentity } from '../../../src/host/process.ts';
import {
  makeFakeFirecracker,
  noSpecification,
  type FakeFirecracker,
} from '../../support/firecracker-program.ts';

/** What it has beyond, or otherwise than, every driver: that is in parity.test.ts. */
/** Of nobody else's: VMMs of the whole host are found by it. */
const id = randomBytes(16).toString('hex');
/** For answers that never come; else as long as users wait. */
let answerMs: number | undefined;

let root: string;
let fake: FakeFirecracker;
let spec: FirecrackerSpec;
const started: ProcessIdentity[] = [];

beforeEach(async () => {
  answerMs = undefined;
  root = mkdtempSync(join(tmpdir(), 'banger-fc-'));
  fake = await makeFakeFirecracker(root);
  for (const name of ['kernel', 'initrd', 'disk']) writeFileSync(join(root, name), 'x');
  spec = {
    id,
    cpus: 2,
    memoryMib: 512,
    kernel: join(root, 'kernel'),
    initrd: join(root, 'initrd'),
    disk: { path: join(root, 'disk'), format: 'raw' },
    consoleLog: join(root, 'console.log'),
    vmmLog: join(root, 'vmm.log'),
    controlSocket: join(root, 'control'),
    network: {},
    acceleration: 'kvm',
  };
});
afterEach(async () => {
  for (const process of started.splice(0)) await killProcess(process);
  rmSync(root, { recursive: true, force: true });
});

const driver = () => firecrackerDriver(fake.program, { answerTimeoutMs: answerMs, jailer: 'never' });

async function start(changes: Partial<FirecrackerSpec> = {}): Promise<RunningVmm> {
  const { controlSocket, consoleLog, vmmLog } = spec;
  const process = await driver().start({ ...spec, ...changes }, new AbortController().signal);
  started.push(process);
  return { process, controlSocket, consoleLog, vmmLog, disk: spec.disk!.path };
}

async function open(vmm: RunningVmm): Promise<VmmControl> {
  const control = await driver().control(vmm);
  onTestFinished(() => control.close());
  return control;
}

const bodyOf = (path: string) => fake.changes.find((one) => one.path === path)?.body;

/** What a start threw, after which nothing of ours may run. */
async function refused(changes: Partial<FirecrackerSpec> = {}): Promise<unknown> {
  try {
    await start(changes);
  } catch (error) {
    expect(driver().find(id)).toBeUndefined();
    return error;
  }
  throw new Error('it was started');
}

describe('a start', () => {
  test('asks for the machine, its kernel, disk and devices, and then for its guest to run', async () => {
    const { process } = await start();
    expect(isAlive(process)).toBe(true);
    expect(fake.changes.map(({ method, path }) => `${method} ${path}`)).toEqual([
      'PUT /machine-config',
      'PUT /boot-source',
      'PUT /drives/root',
      'PUT /entropy',
      'PUT /actions',
    ]);
    expect(bodyOf('/machine-config')).toEqual({ vcpu_count: 2, mem_size_mib: 512 });
    expect(bodyOf('/boot-source')).toMatchObject({
      initrd_path: spec.initrd,
      kernel_image_path: spec.kernel,
      boot_args: expect.stringContaining('initcall_blacklist=cmos_init') as string,
    });
    expect(bodyOf('/actions')).toEqual({ action_type: 'InstanceStart' });
  });

  test('gives the guest a disk whose flushes reach the host, and no root= that would replace our initramfs', async () => {
    await start();
    expect(bodyOf('/drives/root')).toMatchObject({ cache_type: 'Writeback', is_root_device: false });
  });

  test('adds a tap with its address, a vsock, a balloon, metrics and a limit when they are wanted', async () => {
    await start({
      network: { tap: { tap: 'bgr0', mac: '06:00:00:00:00:01', address: '10.213.0.2' } },
      vsock: { cid: 3, socket: join(root, 'vsock') },
      disk: { ...spec.disk!, bytesPerSecond: 500_000 },
      hasBalloon: true,
      metricsFile: join(root, 'metrics'),
    });
    expect(bodyOf('/network-interfaces/net')).toEqual({
      iface_id: 'net',
      host_dev_name: 'bgr0',
      guest_mac: '06:00:00:00:00:01',
    });
    expect(bodyOf('/vsock')).toEqual({ guest_cid: 3, uds_path: join(root, 'vsock') });
    expect(bodyOf('/drives/root')).toMatchObject({
      rate_limiter: { bandwidth: { size: 500_000, refill_time: 1000 } },
    });
    expect(bodyOf('/balloon')).toEqual({ amount_mib: 0, deflate_on_oom: true });
    expect(bodyOf('/metrics')).toEqual({ metrics_path: join(root, 'metrics') });
    expect(statSync(join(root, 'metrics')).mode & 0o777).toBe(0o600);
  });

  test.each(['1.8.0', '1.10.1', '1.14.1', '1.16.2', '1.17.0'])('is made by release %s', async (version) => {
    fake.behave({ version });
    await start({
      network: { tap: { tap: 'bgr0', mac: '06:00:00:00:00:01', address: '10.213.0.2' } },
      vsock: { cid: 3, socket: join(root, 'vsock') },
      disk: { ...spec.disk!, bytesPerSecond: 500_000 },
      hasBalloon: true,
      metricsFile: join(root, 'metrics'),
    });
    expect(fake.changes.at(-1)).toMatchObject({ path: '/actions', body: { action_type: 'InstanceStart' } });
  });

  test('that is cancelled leaves nothing that runs', async () => {
    const cancelled = new AbortController();
    fake.behave({ misdeeds: [{ method: 'PUT', path: '/entropy', does: 'stalls' }] });
    const starting = firecrackerDriver(fake.program, { jailer: 'never' }).start(spec, cancelled.signal);
    await expect.poll(() => fake.changes.length, { timeout: 60_000 }).toBe(4);
    cancelled.abort();
    await expect(starting).rejects.toMatchObject({ code: 'cancelled' });
    expect(driver().find(id)).toBeUndefined();
  });
});

describe('a start is refused, and nothing is left,', () => {
  test('when the address of a socket would be too long, its ports included', async () => {
    const long = (bytes: number) => join(root, 's'.repeat(bytes - root.length - 1));
    expect(await refused({ controlSocket: long(108) })).toMatchObject({ code: 'host_unsupported' });
    expect(await refused({ vsock: { cid: 3, socket: long(97) } })).toMatchObject({
      message: `The path of a socket may have 107 bytes, and "${long(97)}" needs 108`,
    });
    await start({ vsock: { cid: 3, socket: long(96) } });
  });

  test('by a release that is too old', async () => {
    fake.behave({ version: '1.6.9' });
    expect(await refused()).toMatchObject({
      code: 'host_unsupported',
      message: 'Firecracker 1.6.9 is older than 1.7, the oldest that banger knows; it cannot be used',
    });
  });

  test.each(['1.16.0', '1.16.1'])('by %s for a VM with vsock, and for no other', async (version) => {
    fake.behave({ version });
    const vsock = { cid: 3, socket: join(root, 'vsock') };
    expect(await refused({ vsock })).toMatchObject({
      message: `This VM needs vsock, and in Firecracker ${version}, connections into a guest over vsock hang once it was paused`,
    });
    await start();
  });

  test('with what to do when it may not use KVM', async () => {
    const kvm =
      'Start microvm error: Cannot create KVM object: Error creating KVM object: Permission denied (os error 13)';
    fake.behave({ refusesStart: kvm });
    expect(await refused()).toMatchObject({
      code: 'host_unsupported',
      hint: 'See how to get at KVM with: banger doctor',
    });
  });

  test('in its own words when it ends at once, and not by its exit code', async () => {
    const controlSocket = join(root, 'missing', 'control');
    const { message } = (await refused({ controlSocket })) as Error;
    expect(message).toMatch(
      /^Firecracker ended at once: RunWithApiError error: Failed to open the API socket at: /,
    );
    expect(message).toContain(controlSocket);
    expect(message).not.toContain('exit_code');
  });

  test('when it dies on a request, stalls, or answers what is no answer', async () => {
    const path = '/drives/root';
    fake.behave({ misdeeds: [{ method: 'PUT', path, does: 'dies', words: 'thread panicked' }] });
    expect(await refused()).toMatchObject({ message: expect.stringMatching(/thread panicked$/) as unknown });
    // What it said of its requests is no reason.
    fake.behave({ misdeeds: [{ method: 'PUT', path: '/actions', does: 'is killed' }] });
    expect(await refused()).toMatchObject({
      message: 'Firecracker was killed from outside by SIGKILL when it was started',
    });
    answerMs = 1_500;
    fake.behave({ misdeeds: [{ method: 'PUT', path, does: 'stalls' }] });
    expect(await refused()).toMatchObject({
      code: 'timeout',
      message: 'Firecracker did not answer PUT /drives/root in 1.5 s',
    });
    answerMs = undefined;
    fake.behave({ misdeeds: [{ method: 'PUT', path, does: 'fails', status: 500, words: '' }] });
    expect(await refused()).toMatchObject({ message: 'Firecracker refuses PUT /drives/root: status 500' });
    fake.behave({ misdeeds: [{ method: 'GET', path: '/', does: 'lies', words: '<html>' }] });
    expect(await refused()).toMatchObject({ message: "Firecracker's answer to GET / is no JSON object" });
  });

  test('when it says that its guest was started, and it was not', async () => {
    fake.behave({ misdeeds: [{ method: 'PUT', path: '/actions', does: 'lies' }] });
    expect(await refused()).toMatchObject({
      message: 'Firecracker was told to start its guest, and says "Not started"',
    });
  });
});

describe('one that runs', () => {
  test('is not taken for paused because it says so', async () => {
    const control = await open(await start());
    fake.behave({ misdeeds: [{ method: 'PATCH', path: '/vm', does: 'lies' }] });
    await expect(control.pause()).rejects.toMatchObject({ code: 'command_failed' });
  });

  test('has its disk made larger, and is told to look at it', async () => {
    const control = await open(await start());
    await control.growDisk(1024 * 1024);
    expect(fake.sizes).toEqual([1024 * 1024]);
    // Never smaller, whatever is asked: what is at its end would be lost.
    await control.growDisk(4096);
    expect(statSync(spec.disk!.path).size).toBe(1024 * 1024);
  });

  test('keeps its log when that is cut while it writes, and what else is said does not come between', async () => {
    const vmm = await start();
    const control = await open(vmm);
    appendFileSync(standardErrorPath(vmm.vmmLog), 'said by its network\n');
    const requests = (text: string): number => text.split('received a GET').length - 1;
    for (let round = 0; round < 3; round++) {
      expect(await openVmmLog(vmm.vmmLog).cut(500)).toBe(true);
      await control.activity();
      await control.activity();
      const log = openVmmLog(vmm.vmmLog);
      const { start: first, end } = log.range;
      expect(log.between(first, end).toString()).not.toContain('\0');
      expect(requests(log.between(end - 200, end).toString())).toBe(2);
      for (let count = 0; count < 10; count++) await control.activity();
    }
    expect(readFileSync(standardErrorPath(vmm.vmmLog), 'utf8')).toBe('said by its network\n');
    await control.pressPowerButton();
    expect(await control.closed).toBe('reset');
  });

  test('stands still before the host has no room for what it writes, and goes on when it is told to', async () => {
    let free = 1024 ** 3;
    const freeBytes = async () => free;
    truncateSync(spec.disk!.path, 1024 * 1024);
    const vmm = await start();
    const own = firecrackerDriver(fake.program, { jailer: 'never', freeBytes });
    const control = await own.control(vmm);
    onTestFinished(() => control.close());
    let told = 0;
    control.onActivity(() => told++);
    expect(await control.activity()).toBe('running');
    const becomes = (activity: string) =>
      vi.waitFor(async () => expect(await control.activity()).toBe(activity), 30_000);
    free = 50 * 1024 ** 2;
    await becomes('disk-full');
    await vi.waitFor(() => expect(told).toBe(1), 30_000);
    // To flush what it has, say: with half of what there was it stands still again.
    await control.resume();
    expect(await control.activity()).toBe('running');
    free = 30 * 1024 ** 2;
    await becomes('disk-full');
    free = 1024 ** 3;
    await control.resume();
    expect(await control.activity()).toBe('running');
    // Paused by somebody is paused.
    await control.pause();
    expect(await control.activity()).toBe('paused');
  });

  test('takes no more than ten connections, and is not taken for ended by who is one too many', async () => {
    const vmm = await start();
    const control = await open(vmm);
    const others = await Promise.all(
      Array.from({ length: 9 }, async () => {
        const socket = connect(vmm.controlSocket);
        await once(socket, 'connect');
        return socket;
      }),
    );
    await vi.waitFor(
      () =>
        expect(control.activity()).rejects.toThrow('Firecracker refuses GET /: Too many open connections'),
      30_000,
    );
    for (const socket of others) socket.destroy();
    await vi.waitFor(async () => expect(await control.activity()).toBe('running'), 30_000);
    expect(isAlive(vmm.process)).toBe(true);
  });

  test('serves several clients at once, and says to each of them that it has ended', async () => {
    const vmm = await start();
    const controls = [await open(vmm), await open(vmm)];
    await killProcess(vmm.process);
    expect(await Promise.all(controls.map(({ closed }) => closed))).toEqual([undefined, undefined]);
  });
});

describe('how a guest ended', () => {
  test('is seen also by who comes later', async () => {
    fake.behave({ console: '[    3.100000] reboot: System halted\n' });
    expect(await (await open(await start())).closed).toBe('power-off');
  });

  test('is not believed of words that something in the guest printed before others', async () => {
    fake.behave({
      console: 'login: [    3.100000] reboot: System halted\n[    3.2] reboot: System halted\nnext\n',
    });
    const vmm = await start();
    const control = await open(vmm);
    await control.activity();
    expect(isAlive(vmm.process)).toBe(true);
  });
});

test('the fake takes nothing that the specification does not have', async ({ skip }) => {
  if (noSpecification !== undefined) skip(noSpecification);
  const vmm = await start();
  const { FirecrackerApi } = await import('../../../src/host/drivers/firecracker/api.ts');
  const api = new FirecrackerApi(vmm.controlSocket);
  const put = (path: string, body: Record<string, unknown>) => api.send({ method: 'PUT', path, body });
  await expect(put('/vm', { state: 'Paused' })).rejects.toThrow('Invalid request method and/or path: PUT vm');
  await expect(put('/entropy', { speed: 1 })).rejects.toThrow('should NOT have additional properties');
  await expect(put('/machine-config', { vcpu_count: 1 })).rejects.toThrow(
    "should have required property 'mem_size_mib'",
  );
  await expect(put('/entropy', {})).rejects.toThrow('not supported after starting the microVM');
});
