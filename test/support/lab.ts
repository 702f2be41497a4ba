import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { openBanger, until, type Banger } from './banger.ts';

/**
 * What tests need that most hosts have not, one level down: QEMU emulates a processor with AMD-V, so that a VM of ours
 * is a host with a KVM that works, Debian's kernel has device-mapper, and systemd runs it. Everything in it is emulated
 * twice, so that it takes minutes.
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

export const isLabWanted = process.env['BANGER_TEST_LAB'] === '1';
/** May become root by sudo, and use KVM. */
export const labUser = 'dev';

/** Makes the VM, with the program under test in its PATH. */
export async function openLab(): Promise<Lab> {
  const outer = openBanger();
  outer.configure(`[vmm]\ndriver = "qemu"\naccel = "tcg"\nqemu = "${labQemu(outer.home)}"\n`);
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

const cache = resolve(process.env['BANGER_BUILD_CACHE'] ?? '.cache');

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

/** The package that the embedded kernel was taken from: the build leaves it there. */
function newestKernel(): { readonly file: string; readonly version: string } {
  const directory = join(cache, 'debs');
  const found = readdirSync(directory)
    .flatMap((name) => {
      const version = /^linux-image-(\d[^_]*-cloud-amd64)_/.exec(name)?.[1];
      return version === undefined ? [] : [{ file: join(directory, name), version }];
    })
    .toSorted((one, other) => one.version.localeCompare(other.version, 'en', { numeric: true }))
    .at(-1);
  if (!found) throw new Error(`no kernel package is in ${directory}; make one with: scripts/build-sea.sh`);
  return found;
}

/** A QEMU whose emulated processor has AMD-V. */
function labQemu(directory: string): string {
  const program = join(directory, 'qemu-with-svm');
  writeFileSync(
    program,
    `#!/bin/bash
args=()
for word; do
  [[ $word != max ]] || word=max,+svm,+npt
  args+=("$word")
done
exec qemu-system-x86_64 "\${args[@]}"
`,
  );
  chmodSync(program, 0o700);
  return program;
}
