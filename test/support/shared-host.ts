import { execFileSync, spawn } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  copyFileSync,
  cpSync,
  mkdirSync,
  rmSync,
  writeFileSync,
  appendFileSync,
} from 'node:fs';
import { once } from 'node:events';
import { join } from 'node:path';
import { makeShortTempDirectory, openBanger, programArgv, type Banger } from './banger.ts';
import { networkState } from './network-lab.ts';

/** A host of the test's own, as far as networks, /etc and /run are concerned, on which root and a user make VMs. */
export interface SharedHost extends AsyncDisposable {
  readonly root: Banger;
  readonly user: Banger;
  /** Runs a program as root; returns what it prints. Throws when it fails. */
  run(argv: readonly string[]): string;
  /** What is to be as it was afterwards: interfaces, rules, routes, forwarding, files of /etc and /run */
  state(): string;
}

export const sharedHostUser = 'walker';
const uid = 54_242;

const setUp = `
mount --bind "$1/etc" /etc && mount -t tmpfs none /run && mount --bind "$1/tun" /dev/net/tun || exit
ip link set lo up && ip link add up0 type veth peer name up1 && ip address add 192.0.2.1/24 dev up0 || exit
ip link set up0 addrgenmode none up && ip link set up1 addrgenmode none up || exit
ip route add default via 192.0.2.2 || exit
# What is compared afterwards is what there is once the kernel has taken note of both ends.
until ip -br link show up0 | grep -q ' UP '; do sleep 0.02; done
echo up && exec cat`;

export async function openSharedHost(): Promise<SharedHost> {
  const place = makeShortTempDirectory();
  chmodSync(place, 0o755);
  const [binary, script] = programArgv();
  if (script !== undefined) throw new Error('This needs a packed program: other users cannot read this tree');
  const program = join(place, 'banger');
  copyFileSync(binary, program);
  chmodSync(program, 0o755);
  cpSync('/etc', join(place, 'etc'), { recursive: true, verbatimSymlinks: true });
  appendFileSync(join(place, 'etc/passwd'), `${sharedHostUser}:x:${uid}:${uid}::${place}/user:/bin/sh\n`);
  // Everybody's, as udev has it.
  execFileSync('mknod', ['-m', '666', join(place, 'tun'), 'c', '10', '200']);

  const child = spawn('unshare', ['-n', '-m', 'sh', '-c', setUp, 'sh', place], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  const gone = once(child, 'exit');
  await Promise.race([once(child.stdout, 'data'), gone.then(() => Promise.reject(new Error('no host')))]);
  const enter = ['nsenter', '-t', String(child.pid), '-n', '-m'] as const;
  const identity = ['setpriv', `--reuid=${uid}`, `--regid=${uid}`, '--clear-groups', '--no-new-privs'];

  const open = (name: string, owner: number, words: readonly string[]): Banger => {
    const home = join(place, name);
    mkdirSync(home, { mode: 0o700 });
    const path = join(place, `as-${name}`);
    const env = [
      'env',
      '-i',
      `PATH=${process.env['PATH']}`,
      `HOME=${home}`,
      `BANGER_HOME=${home}`,
      'TERM=dumb',
    ];
    writeFileSync(path, `#!/bin/sh\nexec ${[...enter, ...words, ...env, program].join(' ')} "$@"\n`, {
      mode: 0o755,
    });
    const banger = openBanger(home, path);
    chownSync(home, owner, owner);
    return banger;
  };
  const run = (argv: readonly string[]): string =>
    execFileSync(enter[0], [...enter.slice(1), ...argv], { encoding: 'utf8', timeout: 60_000 });
  const [root, user] = [open('root', 0, []), open('user', uid, identity)];
  return {
    root,
    user,
    run,
    state: () => [networkState(run), run(['find', '/etc', '/run'])].join('\n'),
    async [Symbol.asyncDispose]() {
      for (const banger of [root, user]) await banger[Symbol.asyncDispose]();
      child.stdin.end();
      await gone;
      rmSync(place, { recursive: true });
    },
  };
}
