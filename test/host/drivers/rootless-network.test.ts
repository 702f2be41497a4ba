import { execFileSync, spawn, type ChildProcess } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { connect, createServer as createNetServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, onTestFinished, test } from 'vitest';
import {
  loopbackForward,
  type PortForward,
  type RunningVmm,
  type UserNetwork,
} from '../../../src/host/drivers/driver.ts';
import { firecrackerDriver } from '../../../src/host/drivers/firecracker.ts';
import type { FirecrackerSpec } from '../../../src/host/drivers/firecracker/machine.ts';
import { networkSocket, rootlessRefusal } from '../../../src/host/drivers/firecracker/namespace.ts';
import { confinedNetworkProgram } from '../../../src/host/drivers/firecracker/network-program.ts';
import { readHostResolvers, updateResolvers } from '../../../src/host/drivers/own-resolvers.ts';
import { exec } from '../../../src/host/exec.ts';
import { findFreePort } from '../../../src/host/ports.ts';
import { isAlive, killProcess, type ProcessIdentity } from '../../../src/host/process.ts';
import { until } from '../../support/banger.ts';
import { makeFakeFirecracker, type FakeFirecracker } from '../../support/firecracker-program.ts';
import { findNetworkPrograms } from '../../support/network-programs.ts';
import { echoPort, isEchoed } from '../../support/parity/traffic.ts';
import { mountShared } from '../../support/shared-mounts.ts';

/** Of nobody else's: VMMs of the whole host are found by it. Its card is named after what it begins with. */
const id = `5a1e7ab1e0${randomBytes(11).toString('hex')}`;
const refusal = await rootlessRefusal(exec);
/** A test that says why it is skipped where there can be no such network. */
const rootlessTest = (name: string, run: () => Promise<void>): void =>
  refusal === undefined ? test(name, run) : test(name, ({ skip }) => skip(refusal));

let root: string;
let fake: FakeFirecracker;
const started: ProcessIdentity[] = [];
const children: ChildProcess[] = [];

beforeEach(async () => {
  root = mkdtempSync(join(tmpdir(), 'banger-net-'));
  fake = await makeFakeFirecracker(root);
  for (const name of ['kernel', 'initrd']) writeFileSync(join(root, name), 'x');
});
afterEach(async () => {
  for (const child of children.splice(0)) child.kill('SIGKILL');
  for (const process of started.splice(0)) await killProcess(process);
  rmSync(root, { recursive: true, force: true });
});

const driver = () => firecrackerDriver(fake.program, { jailer: 'never' });
const controlSocket = (): string => join(root, `${id}.control`);
const slirps = (): number[] => findNetworkPrograms(controlSocket());

async function start(
  forwards: readonly PortForward[] = [],
  reach: UserNetwork['reach'] = 'all',
  socket = controlSocket(),
): Promise<RunningVmm> {
  const spec: FirecrackerSpec = {
    id,
    cpus: 1,
    memoryMib: 128,
    kernel: join(root, 'kernel'),
    initrd: join(root, 'initrd'),
    consoleLog: join(root, 'console.log'),
    vmmLog: join(root, 'vmm.log'),
    controlSocket: socket,
    network: { user: { forwards, reach } },
    acceleration: 'kvm',
  };
  const process = await driver().start(spec, new AbortController().signal);
  started.push(process);
  const { consoleLog, vmmLog } = spec;
  return { process, controlSocket: socket, consoleLog, vmmLog, disk: '' };
}

/** Runs something where the VMM is. */
const inside = ({ process }: RunningVmm, ...argv: string[]): [string, string[]] => [
  'nsenter',
  ['--target', String(process.pid), '--user', '--net', '--preserve-credentials', '--', ...argv],
];

/** Puts a machine on the bridge where the guest's tap is, with the guest's address. */
function connectGuest(vmm: RunningVmm): void {
  const commands = [
    'link add name wire type veth peer name guest',
    'link set dev wire master br up',
    'link set dev guest up',
    'addr add 10.0.2.15/24 dev guest',
    'route add default via 10.0.2.2 dev guest',
    '',
  ];
  const [program, argv] = inside(vmm, 'ip', '-batch', '-');
  execFileSync(program, argv, { input: commands.join('\n') });
}

/** By TCP it says something, by UDP whatever was said to it. */
const greeter = `
  require('net').createServer((socket) => socket.end('from the guest\\n')).listen(1022);
  const echo = require('dgram').createSocket('udp4');
  echo.on('message', (bytes, { port, address }) => echo.send(bytes, port, address)).bind(53);
`;

/** Says whether somebody answers at a port of the host. */
const knock = `
  const socket = require('net').connect(port, '10.0.2.2');
  const say = (what) => () => { console.log(what); process.exit(); };
  socket.once('connect', say('connected')).once('error', say('nothing')).setTimeout(1500, say('nothing'));
`;

const udpForward = async (): Promise<PortForward> => ({
  ...loopbackForward(await findFreePort({ protocol: 'udp', bind: '127.0.0.1' }), echoPort),
  protocol: 'udp',
});

function answerOf(port: number): Promise<string> {
  return new Promise((resolve) => {
    let text = '';
    const socket = connect(port, '127.0.0.1');
    socket.on('data', (chunk) => void (text += String(chunk)));
    socket.once('error', () => resolve(''));
    socket.once('close', () => resolve(text));
  });
}

rootlessTest('a VMM without root has a tap on a network that leads in and out', async () => {
  const [first, second] = [await findFreePort(), await findFreePort()];
  const vmm = await start([loopbackForward(first, 1022)]);
  expect(fake.changes.find(({ path }) => path === '/network-interfaces/net')?.body).toEqual({
    iface_id: 'net',
    host_dev_name: 'vm',
    guest_mac: '02:5a:1e:7a:b1:e0',
  });
  connectGuest(vmm);
  const [program, argv] = inside(vmm, process.execPath, '-e', greeter);
  children.push(spawn(program, argv, { stdio: 'ignore' }));
  let said = '';
  await until('the guest answers', async () => (said = await answerOf(first)) !== '');
  expect(said).toBe('from the guest\n');

  const control = await driver().control(vmm);
  await control.addForward(loopbackForward(second, 1022));
  expect(await control.forwards()).toEqual([loopbackForward(first, 1022), loopbackForward(second, 1022)]);
  expect(await answerOf(second)).toBe('from the guest\n');
  await control.removeForward(loopbackForward(second, 1022));
  await control.removeForward(loopbackForward(second, 1022));
  expect(await answerOf(second)).toBe('');
  const datagrams = await udpForward();
  await control.addForward(datagrams);
  expect(await isEchoed(datagrams.hostPort, true)).toBe(true);
  await control.removeForward(datagrams);
  expect(await isEchoed(datagrams.hostPort, false)).toBe(false);
  control.close();

  const host = createServer((_, response) => response.end('from the host')).listen(0, '127.0.0.1');
  await new Promise((resolve) => host.once('listening', resolve));
  const { port } = host.address() as { port: number };
  const [get, words] = inside(vmm, 'busybox', 'wget', '-q', '-O', '-', `http://10.0.2.2:${port}/`);
  const { stdout } = await exec([get, ...words]);
  host.close();
  expect(stdout.toString()).toBe('from the host');
});

rootlessTest('one that is cut off answers what comes in by TCP, and reaches nothing itself', async () => {
  const port = await findFreePort();
  const datagrams = await udpForward();
  const vmm = await start([loopbackForward(port, 1022), datagrams], 'none');
  connectGuest(vmm);
  const [program, argv] = inside(vmm, process.execPath, '-e', greeter);
  children.push(spawn(program, argv, { stdio: 'ignore' }));
  let said = '';
  await until('the guest answers', async () => (said = await answerOf(port)) !== '');
  expect(said).toBe('from the guest\n');
  const host = createServer((_, response) => response.end('from the host')).listen(0, '127.0.0.1');
  await new Promise((resolve) => host.once('listening', resolve));
  const { port: hostPort } = host.address() as { port: number };
  const [node, words] = inside(vmm, process.execPath, '-e', `const [port] = [${hostPort}];${knock}`);
  const knocked = async () => (await exec([node, ...words])).stdout.toString().trim();
  expect(await knocked()).toBe('nothing');
  expect(await isEchoed(datagrams.hostPort, false)).toBe(false);

  const control = await driver().control(vmm);
  expect(await control.reach()).toEqual({ reach: 'none', canChange: true });
  await control.setReach('all');
  expect(await control.reach()).toEqual({ reach: 'all', canChange: true });
  expect(await knocked()).toBe('connected');
  expect(await isEchoed(datagrams.hostPort, true)).toBe(true);
  for (let times = 0; times < 2; times++) await control.setReach('none');
  expect(await control.reach()).toEqual({ reach: 'none', canChange: true });
  expect(await knocked()).toBe('nothing');
  expect(await answerOf(port)).toBe('from the guest\n');
  control.close();
  host.close();
});

rootlessTest('it has no rights there, can gain none, and sees no other network', async () => {
  const vmm = await start();
  const status = readFileSync(`/proc/${vmm.process.pid}/status`, 'utf8');
  expect(status).toMatch(/^CapEff:\s+0+$/m);
  expect(status).toMatch(/^CapBnd:\s+0+$/m);
  expect(status).toMatch(/^NoNewPrivs:\s+1$/m);
  const [program, argv] = inside(vmm, 'ip', '-brief', 'link');
  const links = execFileSync(program, argv, { encoding: 'utf8' });
  expect(
    links
      .trim()
      .split('\n')
      .map((line) => line.split(/\s/)[0])
      .toSorted(),
  ).toEqual(['br', 'lo', 'up', 'vm']);
  expect(driver().find(id)?.process.pid).toBe(vmm.process.pid);
});

test.runIf(refusal === undefined)('a start leaves the mounts of the host alone', async ({ skip }) => {
  if (process.getuid!() !== 0) skip('mounts take root, and only root’s are those of the host');
  using mounts = mountShared(root);
  const vmm = await start();
  await killProcess(vmm.process);
  await until('slirp4netns has ended', () => slirps().length === 0);
  expect(mounts.isWhole()).toBe(true);
});

test.runIf(refusal === undefined)(
  'root’s network program sees name servers alone of the host',
  async ({ skip }) => {
    if (process.getuid!() !== 0) skip('without root its files and sockets are out of reach as they are');
    // As XDG_RUNTIME_DIR is, for sockets; and others' are there.
    const run = mkdtempSync('/run/banger-net-');
    onTestFinished(() => rmSync(run, { recursive: true, force: true }));
    const vmm = await start([], 'all', join(run, `${id}.control`));
    const [slirp] = findNetworkPrograms(vmm.controlSocket);
    const seen = (path: string): string[] => readdirSync(`/proc/${slirp}/root/${path}`);
    expect(seen('').toSorted()).toEqual(['etc', 'run']);
    expect(seen('etc')).toEqual(['resolv.conf']);
    expect(seen('run')).toEqual([]);
    const names = (): string => readFileSync(`/proc/${slirp}/root/etc/resolv.conf`, 'utf8');
    expect(names()).toBe(await readHostResolvers());
    await updateResolvers(vmm.vmmLog, 'nameserver 192.0.2.7\n');
    expect(names()).toBe('nameserver 192.0.2.7\n');

    const control = await driver().control(vmm);
    onTestFinished(() => control.close());
    const forward = loopbackForward(await findFreePort(), 22);
    await control.addForward(forward);
    expect(await control.forwards()).toEqual([forward]);
    expect(await control.reach()).toEqual({ reach: 'all', canChange: true });
    await killProcess(vmm.process);
  },
);

test.runIf(refusal === undefined)(
  'root’s network program leaves a /tmp that is shared as it is',
  async ({ skip }) => {
    if (process.getuid!() !== 0) skip('mounts take root, and only root’s are those of the host');
    const vmm = await start();
    const beside = join(root, 'beside.slirp');
    const etc = join(root, 'jail', 'etc');
    const { words, socket } = confinedNetworkProgram(beside, { etc });
    // A host whose /tmp is a mount, in a namespace of our own. The program ends with its standard input.
    const count = 'grep -c " /tmp " /proc/self/mounts';
    const host = `mount --rbind /tmp /tmp && mount --make-shared /tmp && ${count}; "$@"; ${count}`;
    const own = [...words, '--exit-fd', '0', '--api-socket', socket, String(vmm.process.pid), 'beside'];
    const argv = ['unshare', '--mount', '--', 'sh', '-c', host, 'sh', ...own] as const;
    const { stdout, stderr } = await exec(argv, { input: '' });
    expect(stderr.toString()).toContain('exitfd event');
    const [before, ...after] = stdout.toString().trim().split('\n');
    expect(after.at(-1)).toBe(before);
  },
);

rootlessTest('its network ends with it, even by kill -9, with nobody there to see to it', async () => {
  const vmm = await start();
  expect(slirps()).toHaveLength(1);
  process.kill(vmm.process.pid, 'SIGKILL');
  await until('slirp4netns has ended', () => slirps().length === 0);
});

rootlessTest('a port that is taken is told as that, and nothing of the start is left', async () => {
  const host = createServer().listen(0, '127.0.0.1');
  await new Promise((resolve) => host.once('listening', resolve));
  const { port } = host.address() as { port: number };
  await expect(start([loopbackForward(port, 1022)])).rejects.toMatchObject({ code: 'busy' });
  host.close();
  expect(driver().find(id)).toBeUndefined();
  await until('slirp4netns has ended', () => slirps().length === 0);
});

rootlessTest(
  'a network that has ended by itself is told as that, and not as a port that is taken',
  async () => {
    const vmm = await start();
    const control = await driver().control(vmm);
    const ended = {
      code: 'command_failed',
      message: 'slirp4netns, the network of the VM, has ended',
      hint: expect.stringContaining('banger vm restart') as string,
    };
    process.kill(slirps()[0]!, 'SIGKILL');
    await until('slirp4netns has ended', () => slirps().length === 0);
    await expect(control.addForward(loopbackForward(await findFreePort(), 1022))).rejects.toMatchObject(
      ended,
    );
    // As one does that ends while it is asked.
    const socket = networkSocket(controlSocket());
    rmSync(socket, { force: true });
    const dying = createNetServer((connection) => connection.destroy()).listen(socket);
    await new Promise((resolve) => dying.once('listening', resolve));
    await expect(control.addForward(loopbackForward(await findFreePort(), 1022))).rejects.toMatchObject(
      ended,
    );
    dying.close();
    control.close();
    expect(isAlive(vmm.process)).toBe(true);
  },
);

rootlessTest('a VMM that refuses its guest takes its network with it', async () => {
  fake.behave({ refusesStart: 'Start microvm error: told to fail' });
  await expect(start()).rejects.toThrow(/told to fail/);
  await until('slirp4netns has ended', () => slirps().length === 0);
  expect(started.some(isAlive)).toBe(false);
  expect(existsSync(controlSocket()) && driver().find(id)).toBeFalsy();
});
