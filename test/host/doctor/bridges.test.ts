import { expect, test } from 'vitest';
import { checkBridges } from '../../../src/host/doctor/bridges.ts';
import type { Exec } from '../../../src/host/exec.ts';
import { refusingChains } from '../../../src/host/network/firewalls.ts';
import { networkOwner } from '../../../src/host/network/plan.ts';
import type { SetupState } from '../../../src/host/setup/setup-state.ts';

const chains = `table ip filter {
	chain FORWARD {
		type filter hook forward priority filter; policy drop;
	}
	chain INPUT {
		type filter hook input priority filter; policy drop;
	}
}
table bridge mine {
	chain f {
		type filter hook forward priority 0; policy drop;
	}
}
table inet other {
	chain pass {
		type filter hook forward priority filter; policy accept;
	}
}
`;
const printing =
  (text: string): Exec =>
  async (argv) =>
    Promise.resolve({
      exitCode: 0,
      stdout: Buffer.from(argv.includes('chains') ? text : ''),
      stderr: '',
    });
const known = () => [];
const whole: SetupState = {
  setup: {
    version: 1,
    user: 'me',
    owner: networkOwner('x', 1),
    networks: [{ name: 'bridge', number: 1, subnet: '10.213.1.0/24', isShared: false, addresses: [] }],
  },
  taps: [],
  missingTaps: [],
  missingBridges: [],
  usedTaps: [],
  isForwarding: true,
  missingFiles: [],
  names: { resolver: 'other' },
};
const readSetup = () => Promise.resolve(undefined);
const tunDevice = '/dev/null';

test('a firewall that refuses what is forwarded is named, with the rules that let VMs through', async () => {
  expect(refusingChains(chains)).toEqual(['ip filter FORWARD']);
  const input = { mayAdminister: true, readSetup, known, tunDevice };
  expect((await checkBridges({ exec: printing(chains), ...input }))[1]).toMatchObject({
    status: 'warn',
    fix: expect.stringContaining("iptables -I FORWARD -i 'bgb+' -j ACCEPT"),
  });
  expect((await checkBridges({ exec: printing(''), ...input })).map(({ status }) => status)).toEqual([
    'pass',
    'pass',
    'pass',
  ]);
});

test('what a banger that is not known here has left is removed by a command that knows where ours is', async () => {
  const exec: Exec = async (argv) =>
    Promise.resolve({
      exitCode: 0,
      stdout: Buffer.from(argv.includes('tables') ? 'table inet banger_0a1b\n' : ''),
      stderr: '',
    });
  const input = { exec, mayAdminister: true, readSetup, known, tunDevice };
  const fix = async (home?: string) => (await checkBridges({ ...input, home }))[2]!;
  expect(await fix()).toMatchObject({
    status: 'warn',
    evidence: 'of a banger that is not known here, and without running VMs: table inet banger_0a1b',
    fix: 'Remove them with: sudo banger host prune',
  });
  expect((await fix('/srv/my home')).fix).toBe(
    "Remove them with: sudo 'BANGER_HOME=/srv/my home' banger host prune",
  );
});

test('who has no rights is told of the setup, and, once there is one, of its networks', async () => {
  const input = { exec: printing(''), mayAdminister: false, known, tunDevice };
  expect((await checkBridges({ ...input, readSetup }))[0]).toMatchObject({
    status: 'skip',
    evidence: expect.stringContaining('sudo banger host setup'),
  });
  const found = async (state: SetupState) =>
    (await checkBridges({ ...input, readSetup: () => Promise.resolve(state) }))[0];
  expect(await found(whole)).toMatchObject({
    status: 'pass',
    evidence: expect.stringContaining('"bridge"'),
  });
  for (const [trouble, words] of [
    [{ missingBridges: ['bgb1234-1'] }, 'Missing bridges: bgb1234-1'],
    [{ missingTaps: ['bgt1234-1-2'] }, 'Missing taps: bgt1234-1-2'],
    [{ isForwarding: false }, 'net.ipv4.ip_forward is 0'],
  ] as const)
    expect(await found({ ...whole, ...trouble })).toMatchObject({
      status: 'warn',
      evidence: expect.stringContaining(words),
      fix: 'Make it whole with: sudo banger host setup',
    });
});

test('without a device for taps there are none', async () => {
  const input = {
    exec: printing(''),
    mayAdminister: true,
    readSetup,
    known,
    tunDevice: '/nonexistent/tun',
  };
  expect(await checkBridges(input)).toMatchObject([
    { status: 'warn', fix: expect.stringContaining('modprobe tun') },
    { status: 'skip' },
    { status: 'skip' },
  ]);
});
