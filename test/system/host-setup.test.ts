import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { Exec } from '../../src/host/exec.ts';
import { checkBridges } from '../../src/host/doctor/bridges.ts';
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
import { canMakeLab, labReason } from '../support/network-lab.ts';
import {
  openSetupLab,
  setupUid as uid,
  setupUser as user,
  type SetupExtra,
  type SetupLab,
} from '../support/setup-lab.ts';

describe.skipIf(!canMakeLab)(`a host that is set up for a user${labReason}`, () => {
  let host: SetupLab;
  let before: string;

  beforeEach(() => {
    host = openSetupLab();
    before = host.state();
  });
  afterEach(() => host[Symbol.dispose]());

  const state = () => host.state();
  const input = () => host.input();
  const setup = (extra: SetupExtra = {}) => host.setup(extra);

  test('has what was shown, only more of it when it is done again, and nothing of it afterwards', async () => {
    const planned = await setup({ dryRun: true });
    expect(state()).toBe(before);
    expect(host.asked).toEqual([]);

    const done = await setup();
    expect({ ...done, done: false }).toEqual(planned);
    for (const { path, content } of planned.files) expect(readFileSync(path, 'utf8')).toBe(content);
    expect(host.asked).toEqual(['daemon-reload', `enable banger-network-${uid}.service`]);
    const made = state();
    expect(made).toMatch(/persist on user (?:nobody|65534)\b/);
    const status = (await hostStatus({ user }, input()))!;
    expect(status).toMatchObject({ missingTaps: [], missingFiles: [], usedTaps: [], isForwarding: true });
    // One that reaches all and one that does not, for each.
    expect(status.taps).toHaveLength(4);

    await setup();
    expect(state()).toBe(made);
    // The files alone make the same, as they do at boot.
    const addresses = readHostSetup(uid, host.etc)!.networks[0]!.addresses;
    await setup({ taps: 3, shared: ['lab'] });
    const [bridge, shared] = readHostSetup(uid, host.etc)!.networks;
    expect(bridge!.addresses).toEqual([...addresses, expect.any(String)]);
    expect(shared).toMatchObject({ name: 'lab', isShared: true, addresses: { length: 3 } });
    expect((await hostStatus({ user }, input()))!.taps).toHaveLength(12);

    const { removed } = await teardownHost({ user }, input());
    expect(removed).toHaveLength(5);
    expect(state()).toBe(before);
    expect(existsSync(host.etc)).toBe(false);
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
    const argv = ['netns', 'exec', host.lab.host, '/usr/bin/python3', '-c', code];
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
      host.lab.run(flush);
      const state = await status();
      expect(state.missingRules).toEqual(missing);
      expect(setupTroubles(state)).toHaveLength(missing.length);
      await setup();
      expect(setupTroubles(await status())).toEqual([]);
    }
    host.lab.run(['nft', docker]);
    expect((await setup()).firewall).toMatchObject({
      fix: expect.stringContaining("iptables -I FORWARD -i 'bgb+' -j ACCEPT") as string,
    });
  });

  test('is made again at boot by the files alone', async () => {
    const { files } = await setup();
    const [rules, links, unit] = files.slice(1);
    const ruleset = host.lab.run(['nft', 'list', 'ruleset']);
    const interfaces = () =>
      host.lab.run(['ip', '-d', '-br', 'link', 'show']).replaceAll(/@\S+/g, '').split('\n').length;
    const count = interfaces();
    // As after a reboot: the files are there, and nothing else.
    const names = [...readFileSync(links!.path, 'utf8').matchAll(/(?:link add name|tuntap add dev) (\S+)/g)];
    for (const [, name] of names) host.lab.run(['ip', 'link', 'delete', name!]);
    host.lab.run(['nft', 'flush', 'ruleset']);
    expect(interfaces()).toBe(count - names.length);
    const commands = [...unit!.content.matchAll(/^ExecStart=-?(.*)$/gm)].map(([, line]) => line!.split(' '));
    expect(commands.map(([program]) => program)).toEqual(['nft', 'ip', 'sh']);
    expect(commands.flat()).toContain(rules!.path);
    for (const argv of commands.slice(0, 2)) host.lab.run(argv);
    expect(host.lab.run(['nft', 'list', 'ruleset'])).toBe(ruleset);
    rmSync(join(host.root, 'markers'), { recursive: true });
    writeFileSync(join(host.root, 'ip_forward'), '0\n');
    const [, script] = /^ExecStart=sh -c '(.*)'$/m.exec(unit!.content)!;
    // In the namespace of who takes the setup down.
    execFileSync('sh', ['-c', script!.replaceAll('$$', '$')]);
    expect(await hostStatus({ user }, input())).toMatchObject({
      missingTaps: [],
      missingFiles: [],
      isForwarding: true,
    });
    await teardownHost({ user }, input());
    expect(readFileSync(join(host.root, 'ip_forward'), 'utf8')).toBe('0\n');
    expect(host.lab.snapshot()).toBe(
      before.split('\n').slice(0, host.lab.snapshot().split('\n').length).join('\n'),
    );
  });

  test('what a banger that is gone has left is told, and removed; what has an owner or a VM stays', async () => {
    await setup();
    const kept = state();
    const forwarding = { file: join(host.root, 'ip_forward'), markers: join(host.root, 'markers') };
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
      await applyHostNetwork({ owner, bridges: [network(number)] }, { exec: host.exec, forwarding });
    const isIn = (owner: { tag: string }) => state().includes(owner.tag);

    const prune = (dryRun: boolean) => pruneHost({ stateDirectory: '/the/state/directory', dryRun }, input());
    const known = () => knownOwners('/the/state/directory', host.etc);
    const doctor = async () =>
      (
        await checkBridges({
          exec: host.exec,
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
    await removeHostNetwork(own, { exec: host.exec, forwarding });
    expect(state()).toBe(kept);
    await teardownHost({ user }, input());
  });

  test('leaves a directory that was there before, and what others have put into its own', async () => {
    mkdirSync(host.etc, { mode: 0o755 });
    before = state();
    expect((await setup({ taps: 1, dryRun: true })).files[0]!.path).toMatch(/\.nft$/);
    await setup({ taps: 1 });
    await teardownHost({ user }, input());
    expect(state()).toBe(before);
    rmSync(host.etc, { recursive: true });
    await setup({ taps: 1 });
    writeFileSync(join(host.etc, 'note'), '');
    await teardownHost({ user }, input());
    expect(readdirSync(host.etc)).toEqual(['note']);
  });

  /** Runs a verb that is killed at its nth program: that one and all that would have come never are. */
  async function killedAt(
    n: number,
    verb: (killed: ReturnType<typeof input>) => Promise<unknown>,
  ): Promise<boolean> {
    const reached = Promise.withResolvers<boolean>();
    let count = 0;
    const killed: Exec = (argv, options) => {
      if (count++ < n) return host.exec(argv, options);
      reached.resolve(true);
      return new Promise(() => undefined);
    };
    void verb({ ...input(), exec: killed }).then(() => reached.resolve(false), reached.reject);
    return reached.promise;
  }

  test('killed anywhere on its way, it is finished by the next one, or taken down whole, as a teardown is', async () => {
    const request = { user, taps: 1, shared: [], dryRun: false };
    const { files } = await setup({ taps: 1 });
    /** Each time anew, links have other numbers and MACs. */
    const whole = async () => [
      setupTroubles((await hostStatus({ user }, input()))!),
      host.lab.run(['nft', 'list', 'ruleset']),
    ];
    const made = await whole();
    const down = (killed = input()) => teardownHost({ user }, killed);
    await down();
    let isKilled = true;
    for (let n = 0; isKilled; n++) {
      isKilled = await killedAt(n, (killed) => setupHost(request, killed));
      if (n % 2 === 1) {
        await setup({ taps: 1 });
        expect([n, await whole()]).toEqual([n, made]);
      }
      await down();
      expect([n, state()]).toEqual([n, before]);
    }
    // Between two files no program runs.
    for (const [index] of files.entries()) {
      await setup({ taps: 1 });
      for (const { path } of files.slice(index + 1)) rmSync(path);
      await down();
      expect([index, state()]).toEqual([index, before]);
    }
    isKilled = true;
    for (let n = 0; isKilled; n++) {
      await setup({ taps: 1 });
      isKilled = await killedAt(n, down);
      await down();
      expect([n, state()]).toEqual([n, before]);
    }
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
    host.lab.run(['mkdir', '-m', '777', host.etc]);
    await expect(setup()).rejects.toThrow('can be written to by others than root');
    rmSync(host.etc, { recursive: true });
    expect(state()).toBe(before);
  });
});
