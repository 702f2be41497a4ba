import { execFileSync } from 'node:child_process';
import {
  existsSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import { loopbackForward } from '../../../src/host/drivers/driver.ts';
import {
  findControlGroups,
  removeControlGroups,
} from '../../../src/host/drivers/firecracker/control-groups.ts';
import { removeJailOf } from '../../../src/host/drivers/firecracker/remove-jail.ts';
import { hasCapabilities } from '../../../src/host/own-capabilities.ts';
import { findFreePort } from '../../../src/host/ports.ts';
import { killProcess } from '../../../src/host/process.ts';
import { until } from '../../support/banger.ts';
import { findNetworkPrograms } from '../../support/network-programs.ts';
import { mountShared } from '../../support/shared-mounts.ts';
import {
  bodyOf,
  driver,
  fake,
  groupsOf,
  id,
  networkRefusal,
  prepareJailedPlace,
  refusal,
  root,
  spec,
  start,
  started,
  statusOf,
  user,
  vm,
} from '../../support/jailed-place.ts';

prepareJailedPlace();

describe.runIf(refusal === undefined)('a jailed Firecracker', () => {
  test('is its VM’s user, sees its jail alone, is found and controlled, and leaves nothing', async () => {
    fake.behave({ console: 'hello from the guest\n' });
    const vmm = await start();
    const { pid } = vmm.process;
    expect(statusOf(pid, 'Uid')).toBe([user, user, user, user].join('\t'));
    expect(statusOf(pid, 'Gid')).toBe([user, user, user, user].join('\t'));
    expect(statusOf(pid, 'CapEff')).toBe('0000000000000000');
    expect(statusOf(pid, 'NoNewPrivs')).toBe('1');
    expect(existsSync(`/proc/${pid}/root/etc`)).toBe(false);
    expect(driver().find(id)?.process).toEqual(vmm.process);
    expect(driver('never').find(id)?.process).toEqual(vmm.process);
    expect(bodyOf('/boot-source')).toMatchObject({ kernel_image_path: '/kernel', initrd_path: '/initrd' });
    expect(bodyOf('/drives/root')).toMatchObject({ path_on_host: '/disk' });
    expect(readFileSync(spec.consoleLog, 'utf8')).toBe('hello from the guest\n');
    expect(readFileSync(spec.vmmLog, 'utf8')).toContain('Listening on API socket');

    const control = await driver().control(vmm);
    onTestFinished(() => control.close());
    await control.pause();
    expect(await control.activity()).toBe('paused');
    await control.resume();
    await control.growDisk(4096);
    expect(fake.sizes).toEqual([4096]);
    expect(statSync(spec.disk!.path).size).toBe(4096);

    await killProcess(vmm.process);
    await control.closed;
    await removeJailOf(spec);
    expect(existsSync(join(vm, 'jail'))).toBe(false);
    await removeJailOf(spec);
    expect(readFileSync(spec.disk!.path, 'utf8')[0]).toBe('x');
  });

  test('may use as much as its guest has, with room for itself, and its groups go when it has', async ({
    skip,
  }) => {
    const { hierarchies, reason } = findControlGroups();
    if (!hierarchies) skip(reason);
    const disk = { path: join(vm, 'large'), format: 'raw' as const };
    writeFileSync(disk.path, '');
    truncateSync(disk.path, 10 * 1024 ** 3);
    const { version, tops } = hierarchies!;
    // Of version 1 the memory is not limited.
    const used = version === 2 ? [tops.memory] : [tops.cpu, tops.pids];
    const groups = [...new Set(used)].map((top) => join(top, 'banger', `banger-${id}`));
    // Without that, another VM's end could take the group away that the jailer makes its own in.
    const jailer = join(root, 'bin/jailer');
    renameSync(jailer, `${jailer}-itself`);
    const demand = `test -d ${groups.join(' && test -d ')} || exit 1`;
    writeFileSync(jailer, `#!/bin/sh\n${demand}\nexec ${jailer}-itself "$@"\n`, { mode: 0o755 });
    const vmm = await start({ disk });
    const { pid } = vmm.process;
    const limits = readFileSync(`/proc/${pid}/limits`, 'utf8');
    expect(limits).toMatch(/^Max open files +2048 +2048 /m);
    expect(limits).toMatch(/^Max core file size +0 +0 /m);
    // Without that right nobody could raise it again.
    const fileSize = (gib: number) =>
      hasCapabilities(['sysResource']) ? String(gib * 1024 ** 3) : 'unlimited';
    expect(limits).toMatch(new RegExp(`^Max file size +${fileSize(10)} +${fileSize(10)} `, 'm'));
    for (const group of groups)
      expect(readFileSync(join(group, 'cgroup.procs'), 'utf8').split('\n')).toContain(String(pid));
    const read = (top: string, file: string) =>
      readFileSync(join(top, 'banger', `banger-${id}`, file), 'utf8').trim();
    if (version === 2) expect(Number(read(tops.memory, 'memory.max'))).toBe((128 + 128 + 8) * 1024 ** 2);
    expect(read(tops.cpu, version === 2 ? 'cpu.max' : 'cpu.cfs_quota_us')).toMatch(/^200000\b/);
    expect(read(tops.pids, 'pids.max')).toBe('65');

    const control = await driver().control({ ...vmm, disk: disk.path });
    onTestFinished(() => control.close());
    await control.growDisk(12 * 1024 ** 3);
    expect(readFileSync(`/proc/${pid}/limits`, 'utf8')).toMatch(
      new RegExp(`^Max file size +${fileSize(12)} `, 'm'),
    );
    await expect(removeControlGroups(id)).rejects.toMatchObject({
      code: 'busy',
      message: expect.stringContaining(`banger-${id}" of a VM that has ended is still in use`) as string,
    });
    await killProcess(vmm.process);
    await removeJailOf(spec);
    expect(groups.filter((group) => existsSync(group))).toEqual([]);
    expect(existsSync(join(vm, 'jail'))).toBe(false);
  });

  test('runs on the same disk when it is not jailed any more, as root without rights', async () => {
    const vmm = await start();
    await killProcess(vmm.process);
    await removeJailOf(spec);
    expect(statSync(spec.disk!.path).uid).toBe(user);
    const process = await driver('never').start(spec, new AbortController().signal);
    started.push(process);
    expect(bodyOf('/drives/root')).toMatchObject({ path_on_host: '/disk' });
    expect(fake.changes.filter(({ path }) => path === '/actions')).toHaveLength(2);
    expect(statSync(spec.disk!.path)).toMatchObject({ uid: 0, gid: 0 });
    // And jailed again.
    await killProcess(process);
    await start();
    expect(statSync(spec.disk!.path).uid).toBe(user);
  });

  test('starts again over what a killed engine left of it', async () => {
    const first = await start();
    await killProcess(first.process);
    expect(existsSync(join(vm, 'jail'))).toBe(true);
    const second = await start();
    expect(driver().find(id)?.process).toEqual(second.process);
    expect(readFileSync(`${spec.vmmLog}.before`, 'utf8')).toContain('Listening');
  });

  test('leaves nothing when it does not start, and says why', async () => {
    const words = 'Seccomp error: cannot';
    fake.behave({ misdeeds: [{ method: 'PUT', path: '/machine-config', does: 'dies', words }] });
    await expect(start()).rejects.toMatchObject({
      message: expect.stringContaining(words) as string,
    });
    expect(existsSync(join(vm, 'jail'))).toBe(false);
    fake.behave({ misdeeds: [], refusesStart: 'told not to' });
    await expect(start()).rejects.toThrow('told not to');
    expect(existsSync(join(vm, 'jail'))).toBe(false);
    expect(driver().find(id)).toBeUndefined();
    expect(groupsOf(id)).toEqual([]);
  });

  test('leaves nothing when its jailer refuses it, and says what that says', async () => {
    writeFileSync(join(root, 'bin/jailer'), '#!/bin/sh\necho "Jailer error: not today" >&2\nexit 1\n');
    await expect(start()).rejects.toThrow('Jailer error: not today');
    expect(existsSync(join(vm, 'jail'))).toBe(false);
    expect(groupsOf(id)).toEqual([]);
  });

  test.runIf(networkRefusal === undefined)(
    'has a network of its own, whose program has no rights and ends with it',
    async () => {
      const forward = loopbackForward(await findFreePort(), 22);
      using mounts = mountShared(root);
      const vmm = await start({ network: { user: { forwards: [forward], reach: 'all' } } });
      const { pid } = vmm.process;
      expect(bodyOf('/network-interfaces/net')).toMatchObject({ host_dev_name: 'vm' });
      expect(readlinkSync(`/proc/${pid}/ns/net`)).not.toBe(readlinkSync('/proc/self/ns/net'));
      const owner = execFileSync('nsenter', [
        '--target',
        String(pid),
        '--net',
        'ip',
        '-d',
        'link',
        'show',
        'vm',
      ]);
      expect(owner.toString()).toContain(`user ${user}`);
      const slirps = () => findNetworkPrograms(spec.controlSocket);
      const [slirp] = slirps();
      // To bind ports below 1024.
      expect(statusOf(slirp!, 'CapEff')).toBe('0000000000000400');
      const control = await driver().control(vmm);
      onTestFinished(() => control.close());
      expect(await control.forwards()).toEqual([forward]);
      await killProcess(vmm.process);
      await until('the network has ended, too', () => slirps().length === 0);
      // Of the host, none that is mounted below a shared one went with what it left behind.
      expect(mounts.isWhole()).toBe(true);
    },
  );
});

test('one that has to be jailed and cannot be is refused, with what to do, and nothing is started', async () => {
  rmSync(join(root, 'bin/jailer'));
  const before = process.env['PATH'];
  process.env['PATH'] = '/nonexistent';
  try {
    await expect(start()).rejects.toMatchObject({
      code: 'host_unsupported',
      message: expect.stringMatching(
        /^Firecracker has to be jailed, as the configuration says, and cannot be: /,
      ) as string,
      hint: expect.stringContaining('jailer = "auto"') as string,
    });
  } finally {
    process.env['PATH'] = before;
  }
  expect(existsSync(spec.vmmLog)).toBe(false);
});
