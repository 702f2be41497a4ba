import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { macOf } from '../../src/host/network/addresses.ts';
import { applyHostNetwork, removeHostNetwork } from '../../src/host/network/apply.ts';
import { heldTapName, networkOwner, tapName, type HostNetwork } from '../../src/host/network/plan.ts';
import {
  canMakeLab,
  labAddresses,
  labReason,
  openNetworkLab,
  type NetworkLab,
} from '../support/network-lab.ts';

const owner = networkOwner('/a/test', 0);
const network: HostNetwork = {
  owner,
  bridges: [
    {
      number: 1,
      subnet: '10.213.1.0/24',
      isShared: false,
      guests: ['10.213.1.2', '10.213.1.3'],
      spare: ['10.213.1.4'],
    },
    { number: 2, subnet: '10.213.2.0/24', isShared: true, guests: ['10.213.2.2', '10.213.2.3'], spare: [] },
  ],
};

/** As docker's, ufw's and firewalld's look, with a policy that drops. */
const others = `
table ip filter {
  chain DOCKER-USER {
    counter return
  }
  chain FORWARD {
    type filter hook forward priority filter; policy drop;
    jump DOCKER-USER
  }
}
table ip nat {
  chain POSTROUTING {
    type nat hook postrouting priority srcnat; policy accept;
    oifname "docker0" masquerade
  }
}
table inet firewalld {
  chain filter_INPUT {
    type filter hook input priority filter + 10; policy accept;
    ct state invalid drop
  }
}
`;

describe.skipIf(!canMakeLab)(`the network of a host${labReason}`, () => {
  let lab: NetworkLab;
  let root: string;
  beforeEach(() => {
    lab = openNetworkLab();
    root = mkdtempSync(join(tmpdir(), 'banger-network-'));
    writeFileSync(join(root, 'ip_forward'), '0\n');
  });
  afterEach(() => {
    lab[Symbol.dispose]();
    rmSync(root, { recursive: true });
  });
  const tools = (stopAt?: string) => ({
    exec: lab.exec,
    forwarding: { file: join(root, 'ip_forward'), markers: join(root, 'markers') },
    onStage: async (stage: string) => {
      if (stage === stopAt) throw new Error(`cut short at "${stage}"`);
      return Promise.resolve();
    },
  });
  const forwards = () => readFileSync(join(root, 'ip_forward'), 'utf8').trim();

  test('it is made beside the rules of others, made again without a change, and removed without a trace', async () => {
    lab.run(['nft', others]);
    const before = lab.snapshot();
    await applyHostNetwork(network, tools());
    const made = lab.snapshot();
    await applyHostNetwork(network, tools());
    expect(lab.snapshot()).toBe(made);
    // Word for word, in the place where it was.
    const [rulesOfOthers] = before.split('\n1: lo:');
    expect(made).toContain(rulesOfOthers!.trim());
    expect(forwards()).toBe('1');
    await removeHostNetwork(owner, tools());
    expect(lab.snapshot()).toBe(before);
    expect(forwards()).toBe('0');
    await removeHostNetwork(owner, tools());
    expect(lab.snapshot()).toBe(before);
  });

  test('wherever it was cut short, the next attempt finishes it, or takes all of it away', async () => {
    const small: HostNetwork = { owner, bridges: [{ ...network.bridges[1]!, guests: ['10.213.2.2'] }] };
    const before = lab.snapshot();
    await applyHostNetwork(small, tools());
    const whole = lab.snapshot();
    await removeHostNetwork(owner, tools());
    for (const stage of ['bridges', 'rules', 'taps', 'forwarding']) {
      await expect(applyHostNetwork(small, tools(stage))).rejects.toThrow(stage);
      await removeHostNetwork(owner, tools());
      expect([stage, lab.snapshot()]).toEqual([stage, before]);
    }
    const normal = (text: string) =>
      text.replaceAll(/\b\d+: bg|link\/ether \S+|port_\w+ \S+|designated_port \d+|gc_timer +\S+/g, '');
    for (const stage of ['taps removed', 'rules removed', 'forwarding removed']) {
      await applyHostNetwork(small, tools());
      await expect(removeHostNetwork(owner, tools(stage))).rejects.toThrow(stage);
      await applyHostNetwork(small, tools());
      expect([stage, normal(lab.snapshot())]).toEqual([stage, normal(whole)]);
      await expect(removeHostNetwork(owner, tools(stage))).rejects.toThrow(stage);
      await removeHostNetwork(owner, tools());
      expect([stage, lab.snapshot(), forwards()]).toEqual([stage, before, '0']);
    }
  });

  test('an interface of somebody else that has our name is neither used nor removed', async () => {
    lab.run(['ip', 'link', 'add', `bgb${owner.tag}-1`, 'type', 'bridge']);
    lab.run(['ip', 'link', 'set', `bgb${owner.tag}-1`, 'alias', 'mine']);
    await expect(applyHostNetwork(network, tools())).rejects.toThrow('is not ours, but has our name');
    await removeHostNetwork(owner, tools());
    expect(lab.run(['ip', 'link', 'show', `bgb${owner.tag}-1`])).toContain('mine');
  });

  /** What a guest that forges frames gets through, from the tap of one address to that of another. */
  function forge(
    number: number,
    from: string,
    to: string,
    tapOf = tapName,
  ): { arrived: string[]; answered: boolean } {
    const words = [from, to].flatMap((address) => [tapOf(owner, number, address), macOf(address), address]);
    const script = join(import.meta.dirname, '../support/forged-frames.py');
    const gateway = macOf(`10.213.${number}.1`);
    return JSON.parse(
      lab.run(['/usr/bin/python3', script, ...words, gateway, labAddresses.world]),
    ) as ReturnType<typeof forge>;
  }

  test('a guest speaks for its own MAC and address only, and only to those in its network', async () => {
    await applyHostNetwork(network, tools());
    lab.run(['sysctl', '-q', '-w', 'net.ipv4.ip_forward=1']);
    // In a network that its guests share: what is honest arrives, and nothing else does.
    expect(forge(2, '10.213.2.2', '10.213.2.3')).toEqual({
      arrived: ['honest', 'honest-arp'],
      answered: true,
    });
    // Where they are kept apart, not even that; the gateway is there for each.
    expect(forge(1, '10.213.1.2', '10.213.1.3')).toEqual({ arrived: [], answered: true });
    // A tap that waits for its guest lets nobody through.
    expect(forge(1, '10.213.1.4', '10.213.1.3')).toEqual({ arrived: [], answered: false });
  });

  test('a guest that is held reaches its network as ever, and nothing beyond; by the second tap so does any', async () => {
    lab.run(['sysctl', '-q', '-w', 'net.ipv4.ip_forward=1']);
    // Nobody listens there: its kernel counts what arrives.
    const unwanted = (where?: string) =>
      Number(lab.run(['grep', '^Udp: [0-9]', '/proc/net/snmp'], where).split(' ')[2]);
    const redirect = `table ip others_ports { chain pre { type nat hook prerouting priority dstnat;
      ip daddr { 10.213.2.1, ${labAddresses.host} } udp dport 9998 dnat to ${labAddresses.world}; }; }`;
    lab.run(['nft', redirect]);
    const [, shared] = network.bridges;
    const both = { ...shared!, hasHeldTaps: true };
    const neighbours = { arrived: ['honest', 'honest-arp'], answered: true };
    for (const [bridge, tapOf, count] of [
      [shared!, tapName, 1],
      [{ ...shared!, held: ['10.213.2.2'] }, tapName, 0],
      [both, heldTapName, 0],
      [both, tapName, 1],
    ] as const) {
      await applyHostNetwork({ owner, bridges: [bridge] }, tools());
      const before = [unwanted(lab.world), unwanted()];
      expect(forge(2, '10.213.2.2', '10.213.2.3', tapOf)).toEqual(neighbours);
      // What others publish there, and the host itself, are not reached by any.
      expect([unwanted(lab.world), unwanted()]).toEqual([before[0]! + count, before[1]]);
    }
  });
});
