import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { isLabWanted, labSkipReason, labUser, openLab, type Lab } from '../support/lab.ts';

/** A host that systemd runs, whose names systemd-resolved answers, and a user of it who is not root. */
if (isLabWanted) describe('a host with systemd', labTests);
else
  test('`host setup` on a host with systemd, in a lab VM', ({ skip }) => skip(labSkipReason('many minutes')));

function labTests(): void {
  let lab: Lab;
  let before: string;

  /** What a setup may change of a host */
  const state = (): Promise<string> =>
    lab.root(
      [
        'nft list ruleset',
        'ip -d link | grep -v "^ *link/" | sed "s/ gc_timer.*//"',
        'ip address show | grep -v valid_lft',
        'ip route show table all | sed "s/ expires [0-9]*sec//"',
        'sysctl net.ipv4.ip_forward',
        'resolvectl domain',
        'ls /etc/banger /run/banger 2>&1',
        'find /etc/systemd /etc/dnsmasq.d /etc/NetworkManager 2>/dev/null | sort',
        'systemctl list-units --all --plain --no-legend "banger*"',
      ].join('; '),
    );
  const addressOf = async (name: string): Promise<string> =>
    ((await lab.user(`banger vm show ${name} --json`)).match(/"address": ?"([\d.]+)"/) ?? [])[1] ?? '';

  beforeAll(async () => {
    lab = await openLab();
    // A boot probe's three seconds are not enough where everything is emulated twice.
    const config = '[vmm]\naccel = "kvm"\ndriver = "qemu"\n[vm]\nmemory = "256M"\ncpus = 1\n';
    await lab.user(`mkdir -p ~/.config/banger && printf '%s' '${config}' > ~/.config/banger/config.toml`);
    before = await state();
  }, 900_000);
  afterAll(() => lab?.[Symbol.asyncDispose](), 120_000);

  test('what is shown beforehand changes nothing, and what is done is whole', async () => {
    const planned = await lab.user(`banger host setup --user ${labUser} --dry-run`);
    expect(planned).toContain('Would write /etc/systemd/system/banger-network-1000.service');
    expect(await state()).toBe(before);
    const done = await lab.user('sudo banger host setup 2>&1');
    expect(done).not.toMatch(/warning/i);
    expect(await lab.user('banger host status')).toContain('programs of this host find VMs as NAME.vm');
    expect(await lab.root('systemctl is-enabled banger-network-1000.service')).toBe('enabled');
  }, 300_000);

  test('the user makes a VM on the bridge, and programs of the host find it by its name', async () => {
    await lab.user('banger vm create --name web --network bridge');
    expect(await lab.user('banger vm exec web -- hostname')).toBe('web');
    await reachedByName('web');
  }, 600_000);

  test('the VM outlasts the session that it was made in, with all that it can be asked', async () => {
    expect(await lab.root('loginctl list-sessions --no-legend | wc -l')).not.toBe('0');
    expect(await lab.root('loginctl show-user dev --property State --value')).toBe('closing');
    expect(await lab.user('banger vm exec web -- hostname')).toBe('web');
    await lab.user('banger vm pause web && banger vm resume web');
    await lab.user('banger engine stop && banger vm pause web && banger vm resume web');
    expect(await lab.user('ssh web.vm hostname')).toBe('web');
  }, 300_000);

  test('when the host is started anew, the unit brings back the network, and VMs start on it', async () => {
    const address = await addressOf('web');
    await lab.user('banger vm stop --timeout 60s web');
    await lab.reboot();
    expect(await lab.root('systemctl is-failed banger-network-1000.service || :')).toBe('active');
    expect(await lab.user('banger host status')).toContain('programs of this host find VMs as NAME.vm');
    await lab.user('banger vm start web');
    expect(await addressOf('web')).toBe(address);
    await reachedByName('web');
    await lab.user('banger vm create --name api --network bridge');
    await reachedByName('api');
  }, 900_000);

  test('a restart of who answers for names, and of a firewall, is made good by setting up again', async () => {
    await lab.root('systemctl restart systemd-resolved; nft flush ruleset');
    await lab.user('sudo banger host setup 2>&1');
    expect(await lab.user('banger host status')).toContain('find VMs as NAME.vm');
    await reachedByName('api');
  }, 300_000);

  test('teardown leaves the host as it was', async () => {
    await lab.user('banger vm delete web api');
    await lab.user('banger ssh-config --uninstall');
    await lab.user('sudo banger host teardown');
    expect(await state()).toBe(before);
    expect(await lab.user('banger host status')).toContain('Not set up');
    await lab.reboot();
    expect(await state()).toBe(before);
  }, 600_000);

  /** By the host's own programs, as its user. */
  async function reachedByName(name: string): Promise<void> {
    await lab.user('banger ssh-config --install');
    expect(await lab.user(`ssh ${name}.vm hostname`)).toBe(name);
    const address = await addressOf(name);
    expect(address).toMatch(/^10\.213\./);
    expect(await lab.user(`getent ahostsv4 ${name}.vm | head -1 | cut -d ' ' -f 1`)).toBe(address);
    expect(await lab.user(`getent hosts ${address} | tr -s ' ' | cut -d ' ' -f 2`)).toBe(`${name}.vm`);
    // The name leads to the guest itself, whose SSH service says who it is.
    expect(await lab.user(`exec 3<>/dev/tcp/${name}.vm/1022; head -c 8 <&3`)).toBe('SSH-2.0-');
  }
}
