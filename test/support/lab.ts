import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { openBanger, until, type Banger } from './banger.ts';
import { cache, newestKernel, svmConfiguration } from './svm-host.ts';

/**
 * What tests need that most hosts have not, one level down: a Debian that systemd runs, with device-mapper and a KVM that
 * works (svm-host.ts). Everything in it is emulated twice, so that it takes minutes. What needs no more than KVM is sooner
 * done in a smaller one: kvm-lab.ts.
 */
export interface Lab extends AsyncDisposable {
  /** The banger whose VM it is */
  readonly outer: Banger;
  /** Runs a shell command in it as root; returns what it prints, and throws with that when it fails */
  root(command: string): Promise<string>;
  /** The same as `labUser`, who logs in for that, and out again. */
  user(command: string): Promise<string>;
  /** Returns when systemd has started everything again. */
  reboot(): Promise<void>;
}

const wish = process.env['BANGER_TEST_LAB'];
export const isLabWanted = wish === '1';
/** What scripts/test.sh does without being asked, where there is time: about a minute on a host of today. */
export const isQuickLabWanted = isLabWanted || wish === 'quick';

/** Why what takes so long is not done. */
export function labSkipReason(duration: string): string {
  if (wish === '0') return process.env['BANGER_TEST_LAB_REASON'] || 'BANGER_TEST_LAB=0 says so';
  return `it takes ${duration}: ask for it with BANGER_TEST_LAB=1`;
}
/** May become root by sudo, and use KVM. */
export const labUser = 'dev';

/** Makes the VM, with the program under test in its PATH. */
export async function openLab(): Promise<Lab> {
  const outer = openBanger();
  outer.configure(svmConfiguration(outer.home));
  await outer.ok(['image', 'import', labImage(), '--name', 'lab']);
  const size = ['--cpus', '2', '--memory', '3G', '--disk', '24G'];
  await outer.ok(['vm', 'create', '--name', 'lab', '--image', 'lab', ...size]);
  const lab: Lab = {
    outer,
    root: (command) => outer.guest('lab', command),
    user: (command) => outer.ok(['vm', 'exec', 'lab', '--', 'su', '-', labUser, '-c', command]),
    reboot: async () => {
      await outer.ok(['vm', 'restart', '--timeout', '120s', 'lab']);
      await started(lab);
    },
    [Symbol.asyncDispose]: () => outer[Symbol.asyncDispose](),
  };
  await outer.ok(['vm', 'cp', outer.argv[0], 'lab:/usr/local/bin/banger']);
  await started(lab);
  return lab;
}

async function started(lab: Lab): Promise<void> {
  const state = (): Promise<string> => lab.root('systemctl is-system-running || :');
  await until('systemd has started all', async () => /^(?:running|degraded)$/.test(await state()), 300_000);
}

const packages = [
  ...['qemu-system-x86', 'qemu-utils', 'slirp4netns', 'git', 'openssh-client'],
  ...['systemd-sysv', 'systemd-resolved', 'dbus', 'libpam-systemd', 'udev', 'sudo'],
  ...['dmsetup', 'kmod', 'iproute2', 'nftables', 'procps', 'dnsutils', 'e2fsprogs', 'xfsprogs'],
];
const files: Readonly<Record<string, string>> = {
  'etc/modules-load.d/lab.conf': 'kvm-amd\nloop\ndm-snapshot\ndm-zero\n',
  // Names are asked of systemd-resolved. At boot this link leads nowhere yet, so that a file takes its place in guests.
  'etc/tmpfiles.d/lab.conf': 'L+ /etc/resolv.conf - - - - ../run/systemd/resolve/stub-resolv.conf\n',
  'etc/sudoers.d/lab': `${labUser} ALL=(ALL) NOPASSWD: ALL\n`,
};

/** Makes the image of a lab VM, once for all runs: a Debian with QEMU, and the modules of the kernel that guests have. */
function labImage(): string {
  const kernel = newestKernel();
  const recipe = createHash('sha256').update(JSON.stringify([packages, files]));
  const key = recipe.digest('hex').slice(0, 12);
  const tar = join(cache, 'test-images', `lab-${kernel.version}-${key}.tar`);
  if (existsSync(tar)) return tar;
  const work = mkdtempSync(join(tmpdir(), 'banger-lab-'));
  try {
    const modules = join(work, 'modules.tar');
    execFileSync('dpkg-deb', ['-x', kernel.file, join(work, 'kernel')]);
    // In Debian /lib is a link, which a directory of that name would replace.
    const place = '--transform=s,^lib,usr/lib,';
    execFileSync('tar', ['-C', join(work, 'kernel'), place, '-cf', modules, 'lib']);
    const additions = join(work, 'additions.tar');
    for (const [name, content] of Object.entries(files)) {
      mkdirSync(join(work, 'files', dirname(name)), { recursive: true });
      writeFileSync(join(work, 'files', name), content);
    }
    const owner = ['--owner=0', '--group=0'];
    execFileSync('tar', ['-C', join(work, 'files'), ...owner, '-cf', additions, ...Object.keys(files)]);
    mkdirSync(join(cache, 'test-images'), { recursive: true });
    execFileSync(
      'mmdebstrap',
      [
        '--quiet',
        '--variant=minbase',
        `--include=${packages.join(',')}`,
        ...['doc', 'locale', 'man'].map((name) => `--dpkgopt=path-exclude=/usr/share/${name}/*`),
        `--customize-hook=tar-in ${modules} /`,
        `--customize-hook=tar-in ${additions} /`,
        `--customize-hook=chroot "$1" useradd --create-home --shell /bin/bash --groups kvm ${labUser}`,
        `--customize-hook=chroot "$1" depmod ${kernel.version}`,
        'bookworm',
        `${tar}.partial.tar`,
      ],
      { stdio: ['ignore', 'ignore', 'inherit'] },
    );
    renameSync(`${tar}.partial.tar`, tar);
    return tar;
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}
