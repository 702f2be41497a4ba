import { chmodSync, readdirSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';

/**
 * What makes a host of a VM of ours: QEMU emulates a processor with AMD-V, so that there is a KVM in it that works, and
 * the kernel that guests have is Debian's, which has modules for that and for much else.
 */

export const cache = resolve(process.env['BANGER_BUILD_CACHE'] ?? '.cache');

/** A QEMU whose emulated processor has AMD-V. */
export function svmQemu(directory: string): string {
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

/** The configuration of a banger whose VM is such a host. */
export function svmConfiguration(directory: string): string {
  return `[vmm]\ndriver = "qemu"\naccel = "tcg"\nqemu = "${svmQemu(directory)}"\n`;
}

/** The package that the embedded kernel was taken from: the build leaves it there. */
export function newestKernel(): { readonly file: string; readonly version: string } {
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
