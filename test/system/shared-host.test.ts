import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { killEngine } from '../support/crash-lab.ts';
import { until } from '../support/banger.ts';
import { canMakeLab, labReason } from '../support/network-lab.ts';
import { openSharedHost, sharedHostUser, type SharedHost } from '../support/shared-host.ts';

const port = 18_080;

describe.skipIf(!canMakeLab)(`a host on which root and a user have VMs behind bridges${labReason}`, () => {
  let host: SharedHost;
  let before: string;
  const address = new Map<string, string>();

  beforeAll(async () => {
    host = await openSharedHost();
    const { root, user } = host;
    before = host.state();
    const words = ['host', 'setup', '--user', sharedHostUser, '--taps', '2', '--network', 'lab'];
    await root.ok(words);
    for (const banger of [root, user])
      banger.configure('[vm]\nmemory = "192M"\ncpus = 1\nnetwork = "bridge"\n');
    await root.ok(['network', 'create', 'lab']);
    const publish = ['-p', `${port}:80`];
    await Promise.all([
      root.ok(['vm', 'create', '--name', 'web', '--network', 'lab']),
      user.ok(['vm', 'create', '--name', 'web', '--egress', 'git.test', ...publish]),
    ]);
    await user.ok(['vm', 'create', '--name', 'api', '--network', 'lab']);
    for (const [who, banger] of [
      ['root', root],
      ['user', user],
    ] as const)
      for (const vm of await banger.json<{ name: string; address: string }[]>('vm', 'list'))
        address.set(`${who} ${vm.name}`, vm.address);
  });
  afterAll(() => host?.[Symbol.asyncDispose]());

  const reaches = async (vm: string, to: string): Promise<boolean> =>
    (await host.user.run(['vm', 'exec', vm, '--', 'ping', '-c', '1', '-W', '1', to])).code === 0;
  const gatewayOf = (vm: string): string => address.get(vm)!.replace(/\d+$/, '1');
  const openTaps = (): string[] =>
    [...host.run(['ip', '-br', 'link']).matchAll(/^bg([th])[0-9a-f]{4}-\d+-(\d+) .*LOWER_UP/gm)].map(
      ([, kind, last]) => `${kind}${last}`,
    );
  const ask = (port: number, ...words: string[]): string =>
    host.run(['dig', '+short', '+tries=1', '@127.0.0.1', '-p', String(port), ...words]).trim();

  test("the user's VMs are held by the taps that they take, and nothing of theirs leads to root's, or back", async () => {
    expect(openTaps().toSorted()).toEqual(['h2', 't2', 't2']);
    expect(new Set([...address.values()].map((one) => one.split('.')[2])).size).toBe(3);
    expect(await reaches('api', gatewayOf('user api'))).toBe(true);
    expect(await reaches('api', '192.0.2.1')).toBe(true);
    expect(await reaches('api', 'api.vm')).toBe(true);
    expect(await reaches('api', 'web.vm')).toBe(false);
    expect(await reaches('api', address.get('root web')!)).toBe(false);
    // With rules nothing leads out, by whatever route.
    const route = `ip route add default via ${gatewayOf('user web')}; ping -c 1 -W 1 192.0.2.1; echo $?; ip route del default`;
    expect(await host.user.guest('web', route)).toMatch(/^1$/m);
    expect(await host.root.guest('web', 'nslookup web.vm')).toContain(address.get('root web'));
    expect(
      await host.root.guest('web', `ping -c 1 -W 1 ${address.get('user api')} >/dev/null; echo $?`),
    ).toBe('1');
  });

  test('programs of the host find the VMs of each by name, where the resolver was told and beside it', async () => {
    expect(ask(10_053, 'web.vm')).toBe(address.get('user web'));
    expect(ask(10_053, '-x', address.get('user api')!)).toBe('api.vm.');
    expect(ask(10_054, 'web.vm')).toBe(address.get('root web'));
    // Nothing else of an engine's listens on TCP: what controls it is a Unix socket, which no page of a browser gets at.
    const listening = host.run(['ss', '-Hltnp']).matchAll(/:(\d+) +\S+ +users:\(\("banger-engine"/g);
    expect(new Set([...listening].map(([, port]) => Number(port)))).toEqual(new Set([10_053, 10_054]));
  });

  test("the user's port and rules are there while no engine is, and the next one has the VMs in hand", async () => {
    await host.user.guest('web', 'mkdir -p /srv && echo hello >/srv/index.html && httpd -p 80 -h /srv');
    await killEngine((await host.user.enginePid())!);
    expect(host.run(['curl', '-sS', `http://127.0.0.1:${port}/`])).toBe('hello\n');
    await host.user.ok(['vm', 'stop', 'api']);
    await host.user.ok(['vm', 'egress', 'set', 'api', 'none']);
    await host.user.ok(['vm', 'start', 'api']);
    expect(openTaps().toSorted()).toEqual(['h2', 'h2', 't2']);
    expect([await reaches('api', 'api.vm'), await reaches('api', '192.0.2.1')]).toEqual([true, false]);
    await until('names are answered for again', () => ask(10_053, 'web.vm') === address.get('user web'));
  });

  test("what root's VM had goes with it, and the user's stays", async () => {
    await host.root.ok(['vm', 'delete', 'web']);
    await host.root.ok(['network', 'delete', 'lab']);
    expect(host.run(['nft', 'list', 'tables']).trim().split('\n')).toHaveLength(2);
    expect(await reaches('api', gatewayOf('user api'))).toBe(true);
  });

  test('teardown says whose VMs lose their network, and leaves the host as it was; they can be deleted', async () => {
    const torn = await host.root.run(['host', 'teardown', '--user', sharedHostUser]);
    expect(torn.stderr).toContain(`Warning: 2 VMs of ${sharedHostUser} ran on it`);
    for (const vm of ['user web', 'user api']) expect(torn.stderr).toContain(address.get(vm));
    expect(host.state()).toBe(before);
    await host.user.ok(['vm', 'stop', 'api']);
    const refused = await host.user.run(['vm', 'start', 'api']);
    expect([refused.code, refused.stderr]).toEqual([
      1,
      expect.stringContaining('sudo banger host setup') as string,
    ]);
    await host.user.ok(['vm', 'delete', 'web', 'api']);
    expect(host.state()).toBe(before);
  });
});
