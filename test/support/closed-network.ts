import { spawn, type ChildProcess } from 'node:child_process';
import { chmodSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { createInterface } from 'node:readline';

/** A network namespace in which public addresses and names are servers of the test, and out of which nothing leads. */
export interface ClosedNetwork extends Disposable {
  /** Puts a program into it */
  readonly enter: readonly string[];
  /** What the servers were asked, such as `http git.test:8000 /` and `udp 53` */
  readonly asked: readonly string[];
  /** What is /etc/resolv.conf in there: empty at first */
  readonly resolvers: string;
}

/** Its mounts are its own, too, so that names can be what the test says. The process in it answers. */
const server = `
const { createServer } = require('node:http');
const { createSocket } = require('node:dgram');
createServer((asked, answer) => {
  console.log('http', asked.headers.host, asked.url);
  answer.end('hello from ' + asked.headers.host);
}).listen(8000, '0.0.0.0', () => {
  createSocket('udp4').on('message', () => console.log('udp 53')).bind(53, '0.0.0.0', () => console.log('up'));
});
// Whoever started it holds the other end: it goes with them.
process.stdin.resume().on('end', () => process.exit());
`;

/** Makes one with these names, whose addresses are this namespace's own. `home` takes what it is made of. */
export async function openClosedNetwork(
  home: string,
  names: Readonly<Record<string, string>>,
): Promise<ClosedNetwork> {
  const hosts = join(home, 'hosts');
  const lines = Object.entries(names).map(([name, address]) => `${address} ${name}\n`);
  writeFileSync(hosts, `127.0.0.1 localhost\n${lines.join('')}`);
  const resolvers = join(home, 'resolv.conf');
  writeFileSync(resolvers, '');
  const script = join(home, 'server.cjs');
  writeFileSync(script, server);
  const addresses = Object.values(names).map((address) => `ip route add local ${address}/32 dev lo`);
  const mounts = ['mount --bind "$1" /etc/hosts', 'mount --bind "$2" /etc/resolv.conf'];
  const setUp = [...mounts, 'ip link set lo up', ...addresses, 'exec "$3" "$4"'].join(' && ');
  const isRoot = process.getuid!() === 0;
  const child: ChildProcess = spawn(
    'unshare',
    [
      ...(isRoot ? [] : ['-r']),
      ...['-n', '-m', 'sh', '-c', setUp, 'sh', hosts, resolvers, process.execPath, script],
    ],
    { stdio: ['pipe', 'pipe', 'inherit'] },
  );
  const asked: string[] = [];
  const up = Promise.withResolvers<void>();
  createInterface({ input: child.stdout! }).on('line', (line) =>
    line === 'up' ? up.resolve() : asked.push(line),
  );
  child.once('exit', () => up.reject(new Error('the closed network did not come up')));
  await up.promise;
  return {
    enter: [
      'nsenter',
      '-t',
      String(child.pid),
      ...(isRoot ? [] : ['-U', '--preserve-credentials']),
      '-n',
      '-m',
    ],
    asked,
    resolvers,
    [Symbol.dispose]: () => child.stdin!.end(),
  };
}

/** The program under test as it is run in there: a script for `openBanger`. */
export function programInside(network: ClosedNetwork, home: string, program: readonly string[]): string {
  const path = join(home, 'inside');
  const words = [...network.enter, ...program.map((word) => resolve(word))];
  writeFileSync(path, `#!/bin/sh\nexec ${words.join(' ')} "$@"\n`);
  chmodSync(path, 0o755);
  return path;
}
