import { execFileSync, spawn, type ChildProcess } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { loopbackForward, type PortForward, type RunningVmm } from '../../../src/host/drivers/driver.ts';
import { firecrackerDriver } from '../../../src/host/drivers/firecracker.ts';
import { rootlessRefusal } from '../../../src/host/drivers/firecracker/namespace.ts';
import type { JailerWish } from '../../../src/host/drivers/firecracker/jail.ts';
import { removeJailOf } from '../../../src/host/drivers/firecracker/remove-jail.ts';
import { readOwnRights, vmUser } from '../../../src/host/drivers/qemu-confinement.ts';
import { exec } from '../../../src/host/exec.ts';
import { applyHostNetwork } from '../../../src/host/network/apply.ts';
import { networkOwner, tapName, type HostNetwork } from '../../../src/host/network/plan.ts';
import { commandLine, killProcess } from '../../../src/host/process.ts';
import { until } from '../../support/banger.ts';
import { makeFakeJailer } from '../../support/jailer-program.ts';
import { makeFakeFirecracker, type FakeFirecracker } from '../../support/firecracker-program.ts';
import { findNetworkPrograms } from '../../support/network-programs.ts';
import {
  canMakeLab,
  labAddresses,
  labReason,
  openNetworkLab,
  type NetworkLab,
} from '../../support/network-lab.ts';

const refusal = await rootlessRefusal(exec);
const reason = refusal === undefined ? labReason : ` (skipped: ${refusal})`;
const id = 'b21d9edb21d9ed00'.repeat(2);

/** What the guest says, at the ports that are published: it is the machine at the other end of the host's wire. */
const guest = `
  require('net').createServer((socket) => socket.end('by tcp')).listen(1022);
  const udp = require('dgram').createSocket('udp4');
  udp.on('message', (_, { port, address }) => udp.send('by udp', port, address)).bind(53);
`;

const askTcp = (port: number): string => `
  const socket = require('net').connect(${port}, '127.0.0.1');
  socket.setTimeout(10000, () => process.exit()).on('data', (text) => console.log(String(text))).on('error', () => console.log('nothing'));
`;
const askUdp = (port: number): string => `
  const socket = require('dgram').createSocket('udp4');
  socket.on('message', (text) => { console.log(String(text)); process.exit(); });
  setInterval(() => socket.send('?', ${port}, '127.0.0.1'), 200);
  setTimeout(process.exit, 10000);
`;

/** Where the device that taps are made by is open to everybody, as it is on most hosts; in the namespace of its caller. */
const withTun = [
  ...['unshare', '--mount', 'sh', '-c'],
  'mount -t tmpfs none /dev/net && mknod -m 666 /dev/net/tun c 10 200 && exec "$@"',
  'sh',
];

const driverFile = resolve(import.meta.dirname, '../../../src/host/drivers/firecracker.ts');

const statusOf = (pid: number, field: string) =>
  new RegExp(`^${field}:\\s*(\\S+)`, 'm').exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1];

describe.skipIf(!canMakeLab || refusal !== undefined)(`Firecracker on a bridge of the host${reason}`, () => {
  let lab: NetworkLab;
  let root: string;
  let fake: FakeFirecracker;
  let server: ChildProcess;
  let programs: string;
  /** Of the VM */
  let files: string;
  let vmm: RunningVmm | undefined;

  beforeEach(async () => {
    lab = openNetworkLab();
    lab.run(['ip', 'link', 'set', 'lo', 'up']);
    root = mkdtempSync(join(tmpdir(), 'banger-bridged-'));
    files = root;
    programs = join(root, 'bin');
    mkdirSync(programs, { mode: 0o700 });
    fake = await makeFakeFirecracker(programs);
    for (const name of ['kernel', 'initrd']) writeFileSync(join(root, name), 'x');
    server = spawn('ip', ['netns', 'exec', lab.world, process.execPath, '-e', guest], { stdio: 'ignore' });
  });
  afterEach(async () => {
    server.kill('SIGKILL');
    if (vmm) await killProcess(vmm.process);
    await removeJailOf({ id, vmmLog: join(files, 'vmm.log') });
    vmm = undefined;
    lab[Symbol.dispose]();
    rmSync(root, { recursive: true, force: true });
  });

  const driver = () => firecrackerDriver(fake.program, { jailer: 'never' });
  const slirps = () => findNetworkPrograms(join(root, `${id}.control`));

  /** Starts it where the host's network is; as root unless `user` says who does. */
  function start(
    forwards: readonly PortForward[],
    { jailer = 'never', user }: { readonly jailer?: JailerWish; readonly user?: number } = {},
  ): RunningVmm {
    const spec = {
      id,
      cpus: 1,
      memoryMib: 128,
      kernel: join(files, 'kernel'),
      initrd: join(files, 'initrd'),
      consoleLog: join(files, 'console.log'),
      vmmLog: join(files, 'vmm.log'),
      controlSocket: join(root, `${id}.control`),
      network: {
        tap: { tap: 'bgt0000-1-2', mac: '02:0a:d5:01:00:02', address: labAddresses.world },
        user: { forwards, reach: 'none' },
      },
      acceleration: 'kvm',
    };
    const code = `
      import(${JSON.stringify(driverFile)})
        .then(({ firecrackerDriver }) => firecrackerDriver(${JSON.stringify(fake.program)}, { jailer: '${jailer}' })
          .start(${JSON.stringify(spec)}, new AbortController().signal))
        .then((started) => { console.log(JSON.stringify(started)); process.exit(); },
              (error) => { console.log(JSON.stringify({ code: error.code, message: error.message })); process.exit(); });
    `;
    const become =
      user === undefined
        ? []
        : [...withTun, 'setpriv', `--reuid=${user}`, `--regid=${user}`, '--clear-groups'];
    const printed = lab.run([...become, process.execPath, '-e', code]).trim();
    const answer = JSON.parse(printed.split('\n').at(-1)!) as RunningVmm['process'] & { code?: string };
    if (answer.code !== undefined) throw new Error(printed);
    const { controlSocket, consoleLog, vmmLog } = spec;
    vmm = { process: answer, controlSocket, consoleLog, vmmLog, disk: '' };
    return vmm;
  }

  test('opens its tap there, and is reached by published ports, which change while it runs and end with it', async () => {
    const [tcp, udp] = [
      loopbackForward(8022, 1022),
      { ...loopbackForward(8053, 53), protocol: 'udp' as const },
    ];
    const { process: identity } = start([tcp]);
    const card = fake.changes.find(({ path }) => path === '/network-interfaces/net')?.body;
    expect(card).toMatchObject({ host_dev_name: 'bgt0000-1-2', guest_mac: '02:0a:d5:01:00:02' });
    const namespace = lab.run(['readlink', '/proc/self/ns/net']).trim();
    expect(readlinkSync(`/proc/${identity.pid}/ns/net`)).toBe(namespace);
    const status = readFileSync(`/proc/${identity.pid}/status`, 'utf8');
    expect(status).toMatch(/^NoNewPrivs:\s+1$/m);
    expect(status).toMatch(/^CapEff:\s+0+$/m);

    await until('the guest answers', () => lab.node(askTcp(8022)) === 'by tcp');
    const control = await driver().control(vmm!);
    expect(await control.forwards()).toEqual([tcp]);
    await control.addForward(udp);
    expect(lab.node(askUdp(8053))).toBe('by udp');
    // Its way out is the host's bridge, which is held to no reach.
    expect(await control.reach()).toBeUndefined();
    await expect(control.setReach('none')).rejects.toMatchObject({ code: 'host_unsupported' });
    await control.removeForward(tcp);
    expect(lab.node(askTcp(8022))).toBe('nothing');
    expect(await control.forwards()).toEqual([udp]);
    control.close();

    const [slirp] = slirps();
    const keeper = Number(commandLine(slirp!)!.at(-2));
    expect(readFileSync(`/proc/${keeper}/comm`, 'utf8')).toBe('cat\n');
    process.kill(identity.pid, 'SIGKILL');
    await until('nothing of it is left', () => slirps().length === 0 && !existsSync(`/proc/${keeper}`));
  });

  test('is jailed there as its VM’s user, and reached all the same', async ({ skip }) => {
    const user = vmUser(id, readOwnRights());
    if (user === undefined) skip('that needs root, who may become another user');
    makeFakeJailer(programs);
    // What the fake notes, it notes as the jailed user.
    for (const name of ['requests.jsonl', 'sizes']) writeFileSync(join(programs, name), '');
    execFileSync('chmod', ['-R', 'a+rwX', programs]);
    const vm = join(root, 'vm');
    mkdirSync(vm, { mode: 0o700 });
    files = vm;
    for (const name of ['kernel', 'initrd']) writeFileSync(join(vm, name), 'x', { mode: 0o600 });
    const { process: identity, vmmLog } = start([loopbackForward(8022, 1022)], { jailer: 'always' });
    expect(statusOf(identity.pid, 'Uid')).toBe(String(user));
    const namespace = lab.run(['readlink', '/proc/self/ns/net']).trim();
    expect(readlinkSync(`/proc/${identity.pid}/ns/net`)).toBe(namespace);
    await until('the guest answers', () => lab.node(askTcp(8022)) === 'by tcp');
    // What it is reached by reads what a guest sends, and has no rights but to bind ports below 1024.
    expect(statusOf(slirps()[0]!, 'CapEff')).toBe('0000000000000400');
    await killProcess(identity);
    await removeJailOf({ id, vmmLog });
    await until('nothing of it is left', () => slirps().length === 0);
    const logs = ['vmm.log', 'vmm.log.stderr'];
    expect(readdirSync(vm).toSorted()).toEqual(['console.log', 'initrd', 'kernel', ...logs]);
  });

  test('is run there by a user without rights, as root would run it', async ({ skip }) => {
    const user = 65_533;
    execFileSync('chown', ['-R', `${user}:${user}`, root]);
    try {
      const look = `require('fs').accessSync(${JSON.stringify(driverFile)})`;
      const become = [`--reuid=${user}`, `--regid=${user}`, '--clear-groups'];
      execFileSync('setpriv', [...become, process.execPath, '-e', look], { stdio: 'pipe' });
    } catch (error) {
      skip(`another user cannot run programs from here, or read them: ${String(error)}`);
    }
    const { process: identity } = start([loopbackForward(8022, 1022)], { user });
    const status = (field: string): (string | undefined)[] =>
      [identity.pid, slirps()[0]!].map((pid) => statusOf(pid, field));
    expect(status('Uid')).toEqual([String(user), String(user)]);
    // Who reads what a guest sends may bind ports, and see next to no files.
    expect(status('CapEff')).toEqual(['0000000000000000', '0000000000000400']);
    expect(status('Seccomp')[1]).toBe('2');
    expect(readdirSync(`/proc/${slirps()[0]}/root`).toSorted()).toEqual(['etc', 'run']);
    const namespace = lab.run(['readlink', '/proc/self/ns/net']).trim();
    expect(readlinkSync(`/proc/${identity.pid}/ns/net`)).toBe(namespace);
    await until('the guest answers', () => lab.node(askTcp(8022)) === 'by tcp');
    await killProcess(identity);
    await until('nothing of it is left', () => slirps().length === 0);
  });

  test('leaves nothing when a port is taken', async () => {
    const other = spawn('ip', [
      ...['netns', 'exec', lab.host, process.execPath, '-e'],
      `require('net').createServer().listen(8022, '127.0.0.1')`,
    ]);
    try {
      await until('it listens', () => lab.run(['ss', '-tln']).includes(':8022'));
      expect(() => start([loopbackForward(8022, 1022)])).toThrow('"code":"busy"');
      await until('nothing of it is left', () => slirps().length === 0 && !driver().find(id));
    } finally {
      other.kill('SIGKILL');
    }
  });

  test('has a tap that its VM’s user may open and no other, which is made so for one that waited for its VM', async () => {
    const owner = networkOwner('/a/test', 0);
    const address = '10.213.1.2';
    const tap = tapName(owner, 1, address);
    const bridge = { number: 1, subnet: '10.213.1.0/24', isShared: false };
    writeFileSync(join(root, 'ip_forward'), '0\n');
    const forwarding = { file: join(root, 'ip_forward'), markers: join(root, 'markers') };
    const apply = (changes: Pick<HostNetwork['bridges'][number], 'guests' | 'spare' | 'tapUsers'>) =>
      applyHostNetwork({ owner, bridges: [{ ...bridge, ...changes }] }, { exec: lab.exec, forwarding });
    await apply({ guests: ['10.213.1.9'], spare: [address] });
    await apply({ guests: ['10.213.1.9', address], spare: [], tapUsers: { [address]: 70_001 } });
    const made = lab.run(['ip', '-d', 'link', 'show', 'dev', tap]);
    expect(made).toMatch(/user 70001\b/);
    expect(made).toContain('isolated on');
    await apply({ guests: ['10.213.1.9', address], spare: [], tapUsers: { [address]: 70_001 } });
    expect(lab.run(['ip', '-d', 'link', 'show', 'dev', tap])).toBe(made);
    const open = (user: number): string =>
      lab.run([
        ...['perl', '-MPOSIX', '-e'],
        // TUNSETIFF with IFF_TAP | IFF_NO_PI (linux/if_tun.h), by somebody without rights.
        `open(my $f, '+<', '/dev/net/tun') or die; setgid(${user}); setuid(${user});
         print ioctl($f, 0x400454ca, my $r = pack('a16sx22', '${tap}', 0x1002)) ? 'opened' : "$!";`,
      ]);
    expect(open(70_001)).toBe('opened');
    expect(open(70_002)).toBe('Operation not permitted');
  });
});
