import { afterAll, beforeAll, expect, test } from 'vitest';
import { readdirSync, readFileSync } from 'node:fs';
import { readOwnRights, vmUser } from '../../src/host/drivers/qemu-confinement.ts';
import { collect, ended, openBanger, until, vmmPids } from '../support/banger.ts';
import { findFreePort } from '../../src/host/ports.ts';

const banger = openBanger();

interface Shown {
  readonly name: string;
  readonly state: string;
  readonly lastError?: string;
  readonly cpus: number;
  readonly pending?: Record<string, unknown>;
  readonly ports: readonly { readonly hostPort: number; readonly guestPort: number }[];
}
const show = (name: string) => banger.json<Shown>('vm', 'show', name);

beforeAll(async () => {
  await banger.ok(['vm', 'create', '--name', 'web', '-l', 'app=web']);
});
afterAll(() => banger[Symbol.asyncDispose]());

/** What comes back over a connection to a port of this host, until the other side closes it. */
async function fetchText(port: number): Promise<string> {
  const response = await fetch(`http://127.0.0.1:${port}/`);
  return response.text();
}

test('a paused VM refuses programs, survives its engine, and resumes with the time of the host', async () => {
  await banger.ok(['vm', 'pause', 'web']);
  const refused = await banger.run(['vm', 'exec', 'web', '--', 'true']);
  expect([refused.code, refused.stderr]).toEqual([125, expect.stringContaining('banger vm resume web')]);
  const engine = (await banger.enginePid())!;
  process.kill(engine, 'SIGKILL');
  await ended(engine);
  expect((await show('web')).state).toBe('paused');
  const since = Date.now();
  await until('the guest has missed two seconds', () => Date.now() - since > 2_000);

  await banger.ok(['vm', 'resume', 'web']);
  const guestTime = Number(await banger.guest('web', 'date +%s'));
  expect(Math.abs(guestTime - Date.now() / 1000)).toBeLessThan(2);
  await banger.ok(['vm', 'kill', '--signal', 'STOP', 'web']);
  expect((await show('web')).state).toBe('paused');
  await banger.ok(['vm', 'kill', '--signal', 'CONT', 'web']);
  expect(await banger.guest('web', 'echo goes on')).toBe('goes on');
});

test('a VMM is kept from what it does not need, and is not root where we are', async () => {
  const { id, vmm, vmmReason } = await banger.json<Record<'id' | 'vmm' | 'vmmReason', string>>(
    'vm',
    'show',
    'web',
  );
  expect([vmm, vmmReason]).toEqual([
    expect.stringMatching(/^qemu \((?:kvm|tcg)\)$/),
    expect.stringMatching(/^KVM: /),
  ]);
  const [pid] = vmmPids(id, readdirSync('/proc'));
  const status = readFileSync(`/proc/${pid}/status`, 'utf8');
  expect(status).toMatch(/^Seccomp:\t2$/m);
  expect(status).toMatch(/^NoNewPrivs:\t1$/m);
  expect(status).toMatch(/^CapEff:\t0+$/m);
  const user = vmUser(id, readOwnRights()) ?? process.getuid!();
  expect(status).toMatch(new RegExp(`^Uid:\t${user}\t`, 'm'));
  const { confinement } = await banger.json<{ confinement: Record<'has' | 'lacks', string[]> }>(
    'vm',
    'show',
    'web',
  );
  const has = ['the loss of all capabilities', 'no_new_privs', 'seccomp'];
  const ofItsOwn = user === process.getuid!() ? [] : [`user ${user}`, 'a jail'];
  // Who started us may have forbidden core files to all of us.
  expect(confinement.has.filter((word) => word !== 'a ban on core files')).toEqual([...ofItsOwn, ...has]);
  const isRoot = process.getuid!() === 0;
  const lacks = [...(isRoot ? [] : ['a jail']), 'a control group with limits'];
  expect(confinement.lacks).toEqual(expect.arrayContaining(lacks));
  const shown = await banger.ok(['vm', 'show', 'web']);
  expect(shown).toMatch(/^VMM: +qemu \((?:kvm|tcg)\), KVM: ./m);
  expect(shown).toMatch(/^Confined: +by .*no_new_privs, seccomp.*; not by .*a control group with limits/m);
  if (!isRoot) return;
  expect(user).toBeGreaterThan(0);
  // What it gave up cannot be had again while it runs.
  const refused = await banger.run(['vm', 'set', 'web', '-p', '997:80']);
  expect([refused.code, refused.stderr]).toEqual([1, expect.stringContaining('while the VM runs')]);
});

test('a port is published and taken back while the VM runs, and what listens there is told', async () => {
  const hostPort = await findFreePort();
  await banger.guest(
    'web',
    'mkdir -p /srv && echo hello >/srv/index.html && /run/banger/bin/busybox httpd -p 80 -h /srv',
  );
  await banger.ok(['vm', 'set', 'web', '-p', `${hostPort}:80`]);
  expect(await fetchText(hostPort)).toBe('hello\n');

  const { ports } = await banger.json<{ ports: { port: number; process: string; published: string[] }[] }>(
    'vm',
    'ports',
    'web',
  );
  expect(ports.find(({ port }) => port === 80)).toMatchObject({
    process: expect.stringMatching(/busybox|httpd/) as string,
    published: [`127.0.0.1:${hostPort}/tcp`],
  });

  const taken = await banger.run(['vm', 'create', '--name', 'other', '-p', `${hostPort}:80`]);
  expect([taken.code, taken.stderr]).toEqual([1, expect.stringContaining(`belongs to VM "web"`)]);
  await banger.ok(['vm', 'set', 'web', '--unpublish', String(hostPort)]);
  await expect(fetchText(hostPort)).rejects.toThrow();
});

test('what is deleted in the guest, or filled with zeros, takes no room of the host', async () => {
  const used = async (): Promise<number> =>
    (await banger.json<{ diskUsedBytes: number }>('vm', 'show', 'web')).diskUsedBytes / 1024 ** 2;
  const before = await used();
  await banger.guest('web', 'dd if=/dev/urandom of=/big bs=1M count=64 2>/dev/null; sync');
  expect((await used()) - before).toBeGreaterThan(60);
  await banger.guest('web', 'rm /big; sync');
  // The filesystem tells of it with its next commit.
  await until('the room is given back', async () => (await used()) - before < 8);
  await banger.guest('web', 'dd if=/dev/zero of=/zeros bs=1M count=64 2>/dev/null; sync');
  expect((await used()) - before).toBeLessThan(8);
});

test('a disk grows while its VM runs, a name and labels change, and processors wait for a restart', async () => {
  const args = ['vm', 'set', 'web', '--disk', '11G', '--name', 'shop', '--cpus', '2', '--label', 'tier=1'];
  const set = await banger.json(...args);
  expect(set).toMatchObject({
    name: 'shop',
    applied: ['name', 'diskBytes', 'labels'],
    atNextStart: ['cpus'],
    cpus: 1,
    pending: { cpus: 2 },
    labels: { app: 'web', tier: '1' },
  });
  expect(await banger.guest('shop', 'cat /proc/sys/kernel/hostname')).toBe('shop');
  const blocks = Number(await banger.guest('shop', "df -P -k / | tail -1 | awk '{print $2}'"));
  expect(blocks).toBeGreaterThan(10 * 1024 ** 2);
  const shrunk = await banger.run(['vm', 'set', 'shop', '--disk', '9G']);
  expect(shrunk.stderr).toContain('cannot become smaller');

  await banger.ok(['vm', 'restart', '--label', 'tier=1']);
  expect(await banger.guest('shop', 'nproc')).toBe('2');
  expect((await show('shop')).pending).toBeUndefined();
});

test('stats tell what the VMM and the guest use', async () => {
  const [stats] = await banger.json<Record<string, Record<string, number>>[]>('vm', 'stats');
  expect(stats!['vmm']!['memoryBytes']).toBeGreaterThan(32 * 1024 ** 2);
  expect(stats!['vmm']!['cpuSeconds']).toBeGreaterThan(0);
  expect(stats!['guest']!['memoryTotalBytes']).toBeGreaterThan(128 * 1024 ** 2);
  expect(stats!['guest']!['diskTotalBytes']).toBeGreaterThan(10 * 1024 ** 3);
});

test('stats --watch goes on until Ctrl-C, a line each time with --json', async () => {
  const watching = banger.start(['vm', 'stats', '--watch', '--json', 'shop']);
  const ran = collect(watching);
  let lines = 0;
  watching.stdout!.on('data', (data: Buffer) => (lines += data.toString().split('\n').length - 1));
  await until('there are two lines', () => lines >= 2);
  watching.kill('SIGINT');
  const { code, stdout } = await ran;
  expect(code).toBe(130);
  for (const line of stdout.trim().split('\n')) expect(JSON.parse(line)).toMatchObject([{ name: 'shop' }]);
});

test('a VM is stopped when its time is over, with what was written, and whoever waits is told why', async () => {
  await banger.guest('shop', 'echo kept >/root/unflushed');
  await banger.ok(['vm', 'set', 'shop', '--ttl', '2s']);
  expect(await banger.ok(['vm', 'wait', 'shop', '--timeout', '60s'])).toMatch(
    /^shop: stopped \(.*time to live/,
  );
  await banger.ok(['vm', 'set', 'shop', '--ttl', 'off']);
  await banger.ok(['vm', 'start', 'shop']);
  expect(await banger.guest('shop', 'cat /root/unflushed')).toBe('kept');
});

test('TERM powers a VM off, and prune deletes what is stopped and nothing that runs', async () => {
  await banger.ok(['vm', 'create', '--name', 'stays', '--no-start']);
  await banger.ok(['vm', 'start', 'stays']);
  await banger.ok(['vm', 'kill', '--signal', 'TERM', 'shop']);
  expect(await banger.ok(['vm', 'wait', 'shop', '--timeout', '60s'])).toBe('shop: stopped');
  const unasked = await banger.run(['vm', 'prune']);
  expect([unasked.code, unasked.stderr]).toEqual([1, expect.stringContaining('--force')]);
  const { removed, freedBytes } = await banger.json<{ removed: { name: string }[]; freedBytes: number }>(
    'vm',
    'prune',
    '--force',
  );
  expect(removed.map(({ name }) => name)).toEqual(['shop']);
  expect(freedBytes).toBeGreaterThan(0);
  expect((await banger.ok(['vm', 'list', '-q'])).split('\n')).toEqual(['stays']);
});
