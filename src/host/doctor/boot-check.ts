import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { BangerError, errorText } from '../../errors.ts';
import { bootUsually, tryWays, type BootRow } from './boot-table.ts';
import { fail, pass, skip, type CheckResult } from './check.ts';
import type { CheckFindings } from './run-checks.ts';
import type { Scratch } from './scratch.ts';
import type { TrialBoot, TrialBootInput } from './trial-boot.ts';

export interface BootCheckInput extends Pick<
  TrialBootInput,
  'kernel' | 'toolbox' | 'modules' | 'onStage' | 'exec'
> {
  readonly findings: CheckFindings;
  /** Makes the base image's filesystem at a path */
  readonly makeRootDisk?: (path: string) => Promise<void>;
  /** Holds published images, one directory each with a `rootfs.ext4` */
  readonly imagesDirectory: string;
  readonly scratch: Scratch;
  /** On the filesystem where VMs are: one for temporary files may have no devices, or run nothing */
  readonly jailScratch: Scratch;
  /** Where disks of VMs will be */
  readonly vmsDirectory: string;
}

/** Boots a VM that is thrown away, as far as this host has what it takes. Never throws. */
export async function runTrialBoot(
  input: BootCheckInput,
): Promise<{ readonly check: CheckResult; readonly boot?: TrialBoot; readonly ways?: readonly BootRow[] }> {
  const subject = { id: 'boot', title: 'Trial boot' };
  const { findings } = input;
  if (findings.checks.some((check) => check.status === 'fail')) {
    return { check: skip(subject, 'not tried: a check failed') };
  }
  try {
    const root = await chooseRoot(input);
    const boot = await bootUsually({ ...input, rootfs: root?.rootfs });
    const check = pass(subject, evidenceOf(boot, root?.name));
    // Without an image there is nothing to put on disks and to reach by a network.
    return root
      ? { boot, check, ways: await tryWays({ ...input, rootfs: root.rootfs }, boot) }
      : { boot, check };
  } catch (error) {
    const hint = error instanceof BangerError ? error.hint : undefined;
    return { check: fail(subject, errorText(error), hint) };
  }
}

function evidenceOf(boot: TrialBoot, root: string | undefined): string {
  const total = `${boot.totalSeconds.toFixed(1)} s`;
  if (root === undefined)
    return `a kernel booted to its init and powered off, ${total}; no image to go on with`;
  return `a VM from ${root} booted, ran a command over SSH and powered off, ${total}`;
}

interface Root {
  readonly name: string;
  readonly rootfs: NonNullable<TrialBootInput['rootfs']>;
}

/** A filesystem to boot: one made for this, else a published one, which is only read. */
async function chooseRoot({ makeRootDisk, imagesDirectory }: BootCheckInput): Promise<Root | undefined> {
  if (makeRootDisk) {
    const rootfs = async (directory: string): Promise<string> => {
      const path = join(directory, 'rootfs.ext4');
      await makeRootDisk(path);
      return path;
    };
    return { name: 'the base image', rootfs };
  }
  const published = await smallestImage(imagesDirectory);
  return published && { name: `image ${published.id.slice(0, 12)}`, rootfs: async () => published.path };
}

async function smallestImage(
  imagesDirectory: string,
): Promise<{ readonly id: string; readonly path: string } | undefined> {
  // No directory, no images.
  const ids = await readdir(imagesDirectory).catch(() => []);
  const found = await Promise.all(
    ids.map(async (id) => {
      const path = join(imagesDirectory, id, 'rootfs.ext4');
      const status = await stat(path).catch(() => undefined);
      return status?.isFile() ? [{ id, path, blocks: status.blocks }] : [];
    }),
  );
  return found.flat().sort((one, other) => one.blocks - other.blocks)[0];
}
