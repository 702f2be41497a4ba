import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { exec, type Exec } from '../../src/host/exec.ts';

/** A network namespace that stands for a host, joined to another one that stands for the world beyond it. */
export interface NetworkLab extends Disposable {
  readonly host: string;
  readonly world: string;
  /** Runs a program in the host, or in `namespace`; returns what it prints. Throws when it fails. */
  run(argv: readonly string[], namespace?: string): string;
  /** Runs JavaScript with Node there */
  node(code: string, namespace?: string): string;
  /** Runs programs in the host */
  readonly exec: Exec;
  /** Interfaces, rules, routes and forwarding of the host, without what counts up */
  snapshot(): string;
}

/** Addresses of host and world to each other; the host's default route leads to the world. */
export const labAddresses = { host: '192.0.2.1', world: '192.0.2.2' } as const;

/** Names that programs of the host find in the world, at addresses that are as public as any. */
export const labNames = { 'git.test': '9.9.9.9', 'www.test': '9.9.9.8' } as const;

export const canMakeLab = process.getuid!() === 0;
export const labReason = canMakeLab ? '' : ' (skipped: network namespaces take root)';

/** Interfaces, rules, routes and forwarding where `run` runs programs, without what counts up. */
export function networkState(run: (argv: readonly string[]) => string): string {
  return [
    run(['nft', 'list', 'ruleset']),
    run(['ip', '-d', 'link', 'show']).replaceAll(/ gc_timer +\S+/g, ''),
    run(['ip', 'address', 'show']),
    run(['ip', 'route', 'show', 'table', 'all']).replaceAll(/ expires \d+sec/g, ''),
    run(['sysctl', 'net.ipv4.ip_forward']),
  ].join('\n');
}

export function openNetworkLab(): NetworkLab {
  const suffix = randomBytes(3).toString('hex');
  const [host, world] = [`bt-host-${suffix}`, `bt-world-${suffix}`];
  const ip = (...argv: string[]): string => execFileSync('ip', argv, { encoding: 'utf8' });
  for (const namespace of [host, world]) {
    ip('netns', 'add', namespace);
    ip('-n', namespace, 'link', 'set', 'lo', 'up');
  }
  ip('-n', host, 'link', 'add', 'up0', 'type', 'veth', 'peer', 'name', 'up1', 'netns', world);
  ip('-n', host, 'address', 'add', `${labAddresses.host}/24`, 'dev', 'up0');
  ip('-n', world, 'address', 'add', `${labAddresses.world}/24`, 'dev', 'up1');
  // Without addresses that come by themselves after a while: nothing is to change that nobody has changed.
  ip('-n', host, 'link', 'set', 'up0', 'addrgenmode', 'none', 'up');
  ip('-n', world, 'link', 'set', 'up1', 'addrgenmode', 'none', 'up');
  ip('-n', host, 'route', 'add', 'default', 'via', labAddresses.world);
  // What is compared afterwards is what there is once the kernel has taken note of both ends.
  const isUp = `until ip -n ${host} -br link show up0 | grep -q ' UP '; do sleep 0.02; done`;
  execFileSync('sh', ['-c', isUp], { timeout: 10_000 });
  for (const address of Object.values(labNames))
    ip('-n', world, 'address', 'add', `${address}/32`, 'dev', 'lo');
  // `ip netns exec` puts it in the place of /etc/hosts, for what it runs.
  const files = `/etc/netns/${host}`;
  mkdirSync(files, { recursive: true });
  const names = Object.entries(labNames).map(([name, address]) => `${address} ${name}\n`);
  writeFileSync(`${files}/hosts`, `127.0.0.1 localhost\n${names.join('')}`);

  const inside = (namespace: string, argv: readonly string[]): readonly [string, ...string[]] => [
    'ip',
    'netns',
    'exec',
    namespace,
    ...argv,
  ];
  const run: NetworkLab['run'] = (argv, namespace = host) =>
    execFileSync('ip', inside(namespace, argv).slice(1), { encoding: 'utf8', timeout: 180_000 });
  return {
    host,
    world,
    run,
    node: (code, namespace) => run([process.execPath, '-e', code], namespace).trim(),
    exec: (argv, options) => exec(inside(host, argv), options),
    snapshot: () => networkState(run),
    [Symbol.dispose]() {
      for (const namespace of [host, world]) ip('netns', 'delete', namespace);
      rmSync(files, { recursive: true });
    },
  };
}
