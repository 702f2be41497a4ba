import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { BangerError } from '../../src/errors.ts';
import { checkBridges } from '../../src/host/doctor/bridges.ts';
import type { Exec, ExecOutput } from '../../src/host/exec.ts';
import { applyHostNetwork, removeHostNetwork } from '../../src/host/network/apply.ts';
import { networkOwner } from '../../src/host/network/plan.ts';
import { readHostSetup } from '../../src/host/setup/host-setup.ts';
import {
  hostStatus,
  knownOwners,
  pruneHost,
  setupHost,
  teardownHost,
} from '../../src/host/setup/setup-host.ts';
import { setupTroubles } from '../../src/host/setup/setup-state.ts';
import { canMakeLab, labReason, openNetworkLab, type NetworkLab } from '../support/network-lab.ts';

const user = 'nobody';
const uid = 65_534;

describe.skipIf(!canMakeLab)(`a host that is set up for a user${labReason}`, () => {
  let lab: NetworkLab;
  let root: string;
  let before: string;
  /** Commands for systemd, which does not run the lab */
  let asked: string[];

  beforeEach(() => {
    lab = openNetworkLab();
    root = mkdtempSync(join(tmpdir(), 'banger-setup-'));
    writeFileSync(join(root, 'ip_forward'), '0\n');
    before = state();
    asked = [];
  });
  afterEach(() => {
    lab[Symbol.dispose]();
    rmSync(root, { recursive: true });
  });

  const etc = () => join(root, 'etc');
  const state = () =>
    [
      lab.snapshot(),
      readFileSync(join(root, 'ip_forward'), 'utf8'),
      ...readdirSync(root, { recursive: true, encoding: 'utf8' })
        .filter((name) => !/^(?:markers|units)$/.test(name))
        .sort(),
    ].join('\n');
  /** As systemd-resolved keeps them: by link, and only of links that are there. */
  const resolved = new Map<string, Record<string, string>>();
  const resolvectl = async ([verb, link, ...words]: readonly string[]): Promise<ExecOutput> => {
    const isThere = (await lab.exec(['ip', 'link', 'show', link!], { okExitCodes: [1] })).exitCode === 0;
    if (!isThere) throw new BangerError('command_failed', `Failed to resolve interface "${link}"`);
    const settings = resolved.get(link!) ?? {};
    if (words.length > 0) resolved.set(link!, { ...settings, [verb!]: words.join(' ') });
    const stdout = Buffer.from(`Link 7 (${link}): ${settings[verb!] ?? ''}\n`);
    return { exitCode: 0, stdout, stderr: '' };
  };
  const answeredBy = (resolver: string): void => {
    mkdirSync(join(root, 'system/etc/dnsmasq.d'), { recursive: true });
    const address = resolver === 'systemd-resolved' ? '127.0.0.53' : '127.0.0.1';
    writeFileSync(join(root, 'system/etc/resolv.conf'), `nameserver ${address}\n`);
    before = state();
  };
  const exec: Exec = async (argv, options) => {
    if (argv[0] === 'resolvectl') return resolvectl(argv.slice(1));
    if (argv[0] !== 'systemctl') return lab.exec(argv, options);
    if (argv[1] !== 'is-active') asked.push(argv.slice(1).join(' '));
    const empty = Buffer.alloc(0);
    return { exitCode: 0, stdout: empty, stderr: empty } as unknown as ExecOutput;
  };
  const input = () => ({
    markers: join(root, 'markers'),
    env: {},
    exec,
    places: {
      configDirectory: etc(),
      unitDirectory: join(root, 'units'),
      forwarding: { file: join(root, 'ip_forward'), markers: join(root, 'markers') },
      hasSystemd: true,
      systemRoot: join(root, 'system'),
    },
  });
  const setup = (extra: { taps?: number; shared?: string[]; dryRun?: boolean } = {}) =>
    setupHost({ user, taps: 2, shared: [], dryRun: false, ...extra }, input());

  test('has what was shown, only more of it when it is done again, and nothing of it afterwards', async () => {
    const planned = await setup({ dryRun: true });
    expect(state()).toBe(before);
    expect(asked).toEqual([]);

    const done = await setup();
    expect({ ...done, done: false }).toEqual(planned);
    for (const { path, content } of planned.files) expect(readFileSync(path, 'utf8')).toBe(content);
    expect(asked).toEqual(['daemon-reload', `enable banger-network-${uid}.service`]);
    const made = state();
    expect(made).toMatch(/persist on user (?:nobody|65534)\b/);
    const status = (await hostStatus({ user }, input()))!;
    expect(status).toMatchObject({ missingTaps: [], missingFiles: [], usedTaps: [], isForwarding: true });
    // One that reaches all and one that does not, for each.
    expect(status.taps).toHaveLength(4);

    await setup();
    expect(state()).toBe(made);
    // The files alone make the same, as they do at boot.
    const addresses = readHostSetup(uid, etc())!.networks[0]!.addresses;
    await setup({ taps: 3, shared: ['lab'] });
    const [bridge, shared] = readHostSetup(uid, etc())!.networks;
    expect(bridge!.addresses).toEqual([...addresses, expect.any(String)]);
    expect(shared).toMatchObject({ name: 'lab', isShared: true, addresses: { length: 3 } });
    expect((await hostStatus({ user }, input()))!.taps).toHaveLength(12);

    const { removed } = await teardownHost({ user }, input());
    expect(removed).toHaveLength(5);
    expect(state()).toBe(before);
    expect(existsSync(etc())).toBe(false);
    expect((await teardownHost({ user }, input())).removed).toEqual([]);
    expect(await hostStatus({ user }, input())).toBeUndefined();
  });

  /** Opens a tap as a VMM does. Returns what closes it. */
  const openTap = async (name: string): Promise<() => Promise<void>> => {
    const code = `import fcntl, struct, sys
tap = open('/dev/net/tun', 'r+b', buffering=0)
fcntl.ioctl(tap, 0x400454ca, struct.pack('16sH22x', b'${name}', 0x1002))
print('open', flush=True)
sys.stdin.read()`;
    const argv = ['netns', 'exec', lab.host, '/usr/bin/python3', '-c', code];
    const child = spawn('ip', argv, { stdio: ['pipe', 'pipe', 'inherit'] });
    await once(child.stdout, 'data');
    return async () => {
      child.stdin.end();
      await once(child, 'exit');
    };
  };

  test('keeps the taps that there are unless told otherwise, and those of VMs that run in any case', async () => {
    await setup({ taps: 3 });
    const taps = async () => (await hostStatus({ user }, input()))!.taps;
    await setup({ taps: undefined, shared: ['lab'] });
    expect(await taps()).toHaveLength(2 * (3 + 8));
    const surplus = (await taps()).filter((name) => !/-[23]$/.test(name));
    expect(surplus).toHaveLength(14);
    const close = await openTap(surplus[0]!);
    for (const dryRun of [true, false])
      await expect(setup({ taps: 2, dryRun })).rejects.toThrow(`would go: ${surplus[0]}`);
    expect(await taps()).toHaveLength(22);
    await close();
    const { commands } = await setup({ taps: 2, dryRun: true });
    const deleted = commands.flatMap((line) => /^ip link delete dev (.*)$/.exec(line)?.slice(1) ?? []);
    expect(deleted.toSorted()).toEqual(surplus.toSorted());
    await setup({ taps: 2 });
    expect(await taps()).toHaveLength(8);
  });

  test('tells of rules that somebody has flushed, and of firewalls that let no VM out', async () => {
    const docker = 'table ip filter { chain FORWARD { type filter hook forward priority 0; policy drop; }; }';
    expect((await setup({ shared: ['lab'] })).firewall).toBeUndefined();
    const status = async () => (await hostStatus({ user }, input()))!;
    const { setup: made, missingRules } = await status();
    expect(missingRules).toEqual([]);
    const table = `banger_${made.owner.tag}`;
    for (const [flush, missing] of [
      [
        ['nft', 'flush', 'ruleset'],
        [`bridge ${table}`, `inet ${table}`],
      ],
      [['nft', 'flush', 'chain', 'bridge', table, 'from_guest'], [`bridge ${table}`]],
      [['nft', 'flush', 'set', 'inet', table, 'guests'], [`inet ${table}`]],
    ] as const) {
      lab.run(flush);
      const state = await status();
      expect(state.missingRules).toEqual(missing);
      expect(setupTroubles(state)).toHaveLength(missing.length);
      await setup();
      expect(setupTroubles(await status())).toEqual([]);
    }
    lab.run(['nft', docker]);
    expect((await setup()).firewall).toMatchObject({
      fix: expect.stringContaining("iptables -I FORWARD -i 'bgb+' -j ACCEPT") as string,
    });
  });

  test('is made again at boot by the files alone', async () => {
    const { files } = await setup();
    const [rules, links, unit] = files.slice(1);
    const ruleset = lab.run(['nft', 'list', 'ruleset']);
    const interfaces = () =>
      lab.run(['ip', '-d', '-br', 'link', 'show']).replaceAll(/@\S+/g, '').split('\n').length;
    const count = interfaces();
    // As after a reboot: the files are there, and nothing else.
    const names = [...readFileSync(links!.path, 'utf8').matchAll(/(?:link add name|tuntap add dev) (\S+)/g)];
    for (const [, name] of names) lab.run(['ip', 'link', 'delete', name!]);
    lab.run(['nft', 'flush', 'ruleset']);
    expect(interfaces()).toBe(count - names.length);
    const commands = [...unit!.content.matchAll(/^ExecStart=-?(.*)$/gm)].map(([, line]) => line!.split(' '));
    expect(commands.map(([program]) => program)).toEqual(['nft', 'ip', 'sh']);
    expect(commands.flat()).toContain(rules!.path);
    for (const argv of commands.slice(0, 2)) lab.run(argv);
    expect(lab.run(['nft', 'list', 'ruleset'])).toBe(ruleset);
    rmSync(join(root, 'markers'), { recursive: true });
    writeFileSync(join(root, 'ip_forward'), '0\n');
    const [, script] = /^ExecStart=sh -c '(.*)'$/m.exec(unit!.content)!;
    // In the namespace of who takes the setup down.
    execFileSync('sh', ['-c', script!.replaceAll('$$', '$')]);
    expect(await hostStatus({ user }, input())).toMatchObject({
      missingTaps: [],
      missingFiles: [],
      isForwarding: true,
    });
    await teardownHost({ user }, input());
    expect(readFileSync(join(root, 'ip_forward'), 'utf8')).toBe('0\n');
    expect(lab.snapshot()).toBe(before.split('\n').slice(0, lab.snapshot().split('\n').length).join('\n'));
  });

  test('has systemd-resolved ask for names of VMs, on every link and again at boot, and nobody afterwards', async () => {
    answeredBy('systemd-resolved');
    const planned = await setup({ shared: ['lab'], dryRun: true });
    expect(resolved.size).toBe(0);
    const done = await setup({ shared: ['lab'] });
    expect(done.names).toEqual({ resolver: 'systemd-resolved' });
    const links = [...lab.run(['ip', '-br', 'link']).matchAll(/^bgb\S+/gm)].map(([name]) => name);
    expect([...resolved.keys()].toSorted()).toEqual(links.toSorted());
    expect(resolved.get(links[0]!)).toMatchObject({
      dns: '127.0.0.1:10053',
      domain: expect.stringMatching(/^~vm ~\d+\.213\.10\.in-addr\.arpa$/) as string,
      'default-route': 'no',
    });
    const commands = planned.commands.filter((line) => line.startsWith('resolvectl'));
    expect(commands).toHaveLength(6);
    const unit = readFileSync(join(root, 'units', `banger-network-${uid}.service`), 'utf8');
    for (const line of commands) expect(unit).toContain(`\nExecStart=-${line}\n`);

    expect(await hostStatus({ user }, input())).toMatchObject({ names: { isTold: true } });
    // It was started anew, and has forgotten.
    resolved.clear();
    expect(await hostStatus({ user }, input())).toMatchObject({ names: { isTold: false } });
    await setup();
    expect(await hostStatus({ user }, input())).toMatchObject({ names: { isTold: true } });
    await teardownHost({ user }, input());
    expect(state()).toBe(before);
  });

  test('has dnsmasq ask by a file of its own, which goes with it, also when another answers by then', async () => {
    answeredBy('dnsmasq');
    const path = join(root, 'system/etc/dnsmasq.d', `banger-${uid}.conf`);
    const planned = await setup({ dryRun: true });
    expect(planned.files.map((file) => file.path)).toContain(path);
    expect(existsSync(path)).toBe(false);
    await setup();
    expect(readFileSync(path, 'utf8')).toMatch(/^server=\/vm\/127\.0\.0\.1#10053\n/);
    expect(asked.at(-1)).toBe('try-restart dnsmasq.service');
    expect(await hostStatus({ user }, input())).toMatchObject({ missingFiles: [], names: { isTold: true } });
    rmSync(path);
    expect(await hostStatus({ user }, input())).toMatchObject({ missingFiles: [path] });
    await setup();
    writeFileSync(join(root, 'system/etc/resolv.conf'), 'nameserver 127.0.0.53\n');
    // Setup again tells only who answers now, and says so beforehand.
    const again = await setup({ dryRun: true });
    expect(again.commands.join('\n')).toContain(`rm ${path}\nsystemctl try-restart dnsmasq.service`);
    expect(existsSync(path)).toBe(true);
    await setup();
    expect([existsSync(path), asked.at(-1)]).toEqual([false, 'try-restart dnsmasq.service']);
    writeFileSync(path, '');
    expect((await teardownHost({ user }, input())).removed).toContain(path);
    expect(asked.at(-1)).toBe('try-restart dnsmasq.service');
    answeredBy('dnsmasq');
    expect(existsSync(path)).toBe(false);
  });

  test('stands when nobody can be told of names, and says so', async () => {
    expect((await setup({ dryRun: true })).names.advice).toContain('server=/vm/127.0.0.1#10053');
    answeredBy('systemd-resolved');
    const broken = {
      ...input(),
      exec: (async (argv, options) => {
        if (argv[0] === 'resolvectl') throw new BangerError('command_failed', 'resolvectl: no answer');
        return exec(argv, options);
      }) as Exec,
    };
    const done = await setupHost({ user, taps: 1, shared: [], dryRun: false }, broken);
    expect(done).toMatchObject({ done: true, names: { problem: 'resolvectl: no answer' } });
    expect(await hostStatus({ user }, broken)).toMatchObject({ missingTaps: [], names: { isTold: false } });
    await teardownHost({ user }, broken);
    expect(state()).toBe(before);
  });

  test('what a banger that is gone has left is told, and removed; what has an owner or a VM stays', async () => {
    await setup();
    const kept = state();
    const forwarding = { file: join(root, 'ip_forward'), markers: join(root, 'markers') };
    const gone = networkOwner('/a/directory/that/was/deleted', 0);
    const own = networkOwner('/the/state/directory', 0);
    const network = (number: number) => ({
      number,
      subnet: `10.213.${number}.0/24`,
      isShared: false,
      guests: [`10.213.${number}.2`],
      spare: [],
    });
    for (const [owner, number] of [
      [gone, 201],
      [own, 202],
    ] as const)
      await applyHostNetwork({ owner, bridges: [network(number)] }, { exec, forwarding });
    const isIn = (owner: { tag: string }) => state().includes(owner.tag);

    const prune = (dryRun: boolean) => pruneHost({ stateDirectory: '/the/state/directory', dryRun }, input());
    const known = () => knownOwners('/the/state/directory', etc());
    const doctor = async () =>
      (
        await checkBridges({
          exec,
          mayAdminister: true,
          readSetup: () => Promise.resolve(undefined),
          known,
          tunDevice: '/dev/null',
        })
      ).find(({ id }) => id === 'leftovers');
    expect(await doctor()).toMatchObject({
      status: 'warn',
      evidence: expect.stringContaining(`bgb${gone.tag}-201, bgt${gone.tag}-201-2, table`) as string,
      fix: 'Remove them with: sudo banger host prune',
    });
    const [planned, ...others] = await prune(true);
    expect([planned!.owner.tag, others, isIn(gone)]).toEqual([gone.tag, [], true]);
    expect(await prune(false)).toEqual([planned]);
    expect([isIn(gone), isIn(own)]).toEqual([false, true]);
    expect(await doctor()).toMatchObject({ status: 'pass' });
    expect(await prune(false)).toEqual([]);
    await removeHostNetwork(own, { exec, forwarding });
    expect(state()).toBe(kept);
    await teardownHost({ user }, input());
  });

  test('for two users has what is of each: ports for names of their own, and one goes without the other', async () => {
    answeredBy('systemd-resolved');
    // Root's habits are no reason for files that the users' engines cannot read.
    const mask = process.umask(0o077);
    const first = await setup({ taps: 1 }).finally(() => process.umask(mask));
    const alone = state();
    const second = await setupHost({ user: 'daemon', taps: 1, shared: [], dryRun: false }, input());
    for (const { path } of [...first.files, ...second.files]) expect(statSync(path).mode & 0o777).toBe(0o644);
    expect(statSync(etc()).mode & 0o777).toBe(0o755);
    expect(second.networks[0]!.subnet).not.toBe(first.networks[0]!.subnet);
    const servers = () =>
      lab
        .run(['ip', '-br', 'link'])
        .match(/^bgb\S+/gm)!
        .map((link) => resolved.get(link)!['dns']);
    expect(servers().toSorted()).toEqual(['127.0.0.1:10053', '127.0.0.1:10054']);
    // Done again, it keeps its own.
    await setup({ taps: 1 });
    expect(servers().toSorted()).toEqual(['127.0.0.1:10053', '127.0.0.1:10054']);
    await teardownHost({ user: 'daemon' }, input());
    expect(state()).toBe(alone);
    await teardownHost({ user }, input());
    expect(state()).toBe(before);
  });

  test('leaves a directory that was there before, and what others have put into its own', async () => {
    mkdirSync(etc(), { mode: 0o755 });
    before = state();
    expect((await setup({ taps: 1, dryRun: true })).files[0]!.path).toMatch(/\.nft$/);
    await setup({ taps: 1 });
    await teardownHost({ user }, input());
    expect(state()).toBe(before);
    rmSync(etc(), { recursive: true });
    await setup({ taps: 1 });
    writeFileSync(join(etc(), 'note'), '');
    await teardownHost({ user }, input());
    expect(readdirSync(etc())).toEqual(['note']);
  });

  test('is refused for root, for users that there are not, and where others could have written the plan', async () => {
    await expect(setupHost({ user: 'root', taps: 1, shared: [], dryRun: true }, input())).rejects.toThrow(
      'Root needs no setup',
    );
    await setup({ taps: 1 });
    await expect(teardownHost({}, input())).rejects.toMatchObject({
      message: 'It is not known for whom',
      hint: expect.stringMatching(/: sudo banger host teardown --user nobody$/) as string,
    });
    await teardownHost({ user }, input());
    await expect(setupHost({ user: '-s', taps: 1, shared: [], dryRun: true }, input())).rejects.toThrow(
      'There is no user "-s"',
    );
    lab.run(['mkdir', '-m', '777', etc()]);
    await expect(setup()).rejects.toThrow('can be written to by others than root');
    rmSync(etc(), { recursive: true });
    expect(state()).toBe(before);
  });
});
