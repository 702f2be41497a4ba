import { existsSync, readlinkSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import { describeConfinement } from '../../../src/host/drivers/confinement.ts';
import { jailPaths } from '../../../src/host/drivers/firecracker/jail.ts';
import type { FirecrackerSpec } from '../../../src/host/drivers/firecracker/machine.ts';
import { removeJailOf } from '../../../src/host/drivers/firecracker/remove-jail.ts';
import { killProcess } from '../../../src/host/process.ts';
import {
  driver,
  fake,
  id,
  prepareJailedPlace,
  refusal,
  spec,
  start,
  user,
  vm,
} from '../../support/jailed-place.ts';

/** Further down than any address of a socket reaches. */
prepareJailedPlace('d'.repeat(60));

describe.runIf(refusal === undefined)('a jailed Firecracker', () => {
  test('is started and controlled where the path of its socket is longer than an address may be', async () => {
    const { socket } = jailPaths(spec.vmmLog, id, fake.program);
    expect(Buffer.byteLength(socket)).toBeGreaterThan(108);
    const vmm = await start();
    expect(existsSync(socket)).toBe(true);
    const control = await driver().control(vmm);
    onTestFinished(() => control.close());
    await control.pause();
    expect(await control.activity()).toBe('paused');
    await killProcess(vmm.process);
    await control.closed;
    await removeJailOf(spec);
    expect(existsSync(join(vm, 'jail'))).toBe(false);
  });

  test('that has no network is not on the one of the host, and is confined as a VM says of itself', async () => {
    const { pid } = (await start()).process;
    expect(readlinkSync(`/proc/${pid}/ns/net`)).not.toBe(readlinkSync('/proc/self/ns/net'));
    const { has, lacks } = describeConfinement(pid, id)!;
    expect(has).toEqual(
      expect.arrayContaining([
        `user ${user}`,
        'a jail',
        'a network namespace',
        'the loss of all capabilities',
        'no_new_privs',
        'a ban on core files',
      ]),
    );
    // Firecracker has a filter of system calls; what plays its part has none.
    expect(lacks).toContain('seccomp');
  });

  test.each<[string, Partial<FirecrackerSpec>]>([
    ['vsock', { vsock: { cid: 3, socket: '/v.socket' } }],
    ['metrics', { metricsFile: 'metrics' }],
  ])('with %s is refused, with what to do, and nothing is started', async (_, changes) => {
    await expect(start(changes)).rejects.toMatchObject({
      code: 'host_unsupported',
      message: 'A jailed Firecracker has neither vsock nor metrics',
      hint: expect.stringContaining('jailer = "never"') as string,
    });
    expect(existsSync(join(vm, 'jail'))).toBe(false);
    expect(driver().find(id)).toBeUndefined();
    expect(existsSync(spec.vmmLog)).toBe(false);
  });
});
