import { execFileSync } from 'node:child_process';
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
import { join, resolve } from 'node:path';

/**
 * What tests need that most hosts have not, one level down: QEMU emulates a processor with AMD-V, so that a VM of ours
 * is a host with a KVM that works, and Debian's kernel has device-mapper.
 */
const packages = ['qemu-system-x86', 'qemu-utils', 'dmsetup', 'kmod', 'git', 'iproute2', 'procps'];
/** Loaded in it before banger is run. */
export const labModules = ['kvm-amd', 'loop', 'dm-snapshot', 'dm-zero'];

const cache = resolve(process.env['BANGER_BUILD_CACHE'] ?? '.cache');

/** Makes the image of a lab VM, once for all runs: a Debian with QEMU, and the modules of the kernel that guests have. */
export function labImage(): string {
  const kernel = newestKernel();
  const tar = join(cache, 'test-images', `lab-${kernel.version}.tar`);
  if (existsSync(tar)) return tar;
  const work = mkdtempSync(join(tmpdir(), 'banger-lab-'));
  try {
    const modules = join(work, 'modules.tar');
    execFileSync('dpkg-deb', ['-x', kernel.file, join(work, 'kernel')]);
    // In Debian /lib is a link, which a directory of that name would replace.
    const place = '--transform=s,^lib,usr/lib,';
    execFileSync('tar', ['-C', join(work, 'kernel'), place, '-cf', modules, 'lib']);
    mkdirSync(join(cache, 'test-images'), { recursive: true });
    execFileSync(
      'mmdebstrap',
      [
        '--quiet',
        '--variant=minbase',
        `--include=${packages.join(',')}`,
        ...['doc', 'locale', 'man'].map((name) => `--dpkgopt=path-exclude=/usr/share/${name}/*`),
        `--customize-hook=tar-in ${modules} /`,
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
export function labQemu(directory: string): string {
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
