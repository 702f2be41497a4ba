import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { Exec, ExecOutput } from '../../src/host/exec.ts';
import { readHostSetup } from '../../src/host/setup/host-setup.ts';
import { hostStatus, setupHost, teardownHost } from '../../src/host/setup/setup-host.ts';
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
  const exec: Exec = async (argv, options) => {
    if (argv[0] !== 'systemctl') return lab.exec(argv, options);
    asked.push(argv.slice(1).join(' '));
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
    expect(status.taps).toHaveLength(2);

    await setup();
    expect(state()).toBe(made);
    // The files alone make the same, as they do at boot.
    const addresses = readHostSetup(uid, etc())!.networks[0]!.addresses;
    await setup({ taps: 3, shared: ['lab'] });
    const [bridge, shared] = readHostSetup(uid, etc())!.networks;
    expect(bridge!.addresses).toEqual([...addresses, expect.any(String)]);
    expect(shared).toMatchObject({ name: 'lab', isShared: true, addresses: { length: 3 } });
    expect((await hostStatus({ user }, input()))!.taps).toHaveLength(6);

    const { removed } = await teardownHost({ user }, input());
    expect(removed).toHaveLength(4);
    expect(state()).toBe(before);
    expect(existsSync(etc())).toBe(false);
    expect((await teardownHost({ user }, input())).removed).toEqual([]);
    expect(await hostStatus({ user }, input())).toBeUndefined();
  });

  test('is made again at boot by the files alone', async () => {
    const { files } = await setup();
    const [rules, links, unit] = files;
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
    expect(commands.map(([program]) => program)).toEqual(['nft', 'ip', 'sysctl']);
    expect(commands.flat()).toContain(rules!.path);
    for (const argv of commands.slice(0, 2)) lab.run(argv);
    expect(lab.run(['nft', 'list', 'ruleset'])).toBe(ruleset);
    expect(await hostStatus({ user }, input())).toMatchObject({ missingTaps: [], missingFiles: [] });
    await teardownHost({ user }, input());
    expect(lab.snapshot()).toBe(before.split('\n').slice(0, lab.snapshot().split('\n').length).join('\n'));
  });

  test('is refused for root, for users that there are not, and where others could have written the plan', async () => {
    await expect(setupHost({ user: 'root', taps: 1, shared: [], dryRun: true }, input())).rejects.toThrow(
      'Root needs no setup',
    );
    await expect(setupHost({ user: '-s', taps: 1, shared: [], dryRun: true }, input())).rejects.toThrow(
      'There is no user "-s"',
    );
    lab.run(['mkdir', '-m', '777', etc()]);
    await expect(setup()).rejects.toThrow('can be written to by others than root');
    rmSync(etc(), { recursive: true });
    expect(state()).toBe(before);
  });
});
