import { BangerError } from '../../../errors.ts';
import { readOwnRights } from '../qemu-confinement.ts';
import { vmmEnvironment } from '../vmm-environment.ts';
import { processName } from '../vmm-process.ts';
import { findControlGroups, groupLimits } from './control-groups.ts';
import { fileLimit } from './file-limit.ts';
import {
  decideJail,
  findProgram,
  insidePaths,
  jailerArguments,
  type Jailing,
  type JailerOptions,
  type JailerWish,
  type JailPaths,
} from './jail.ts';
import type { FirecrackerSpec } from './machine.ts';
import {
  hostNetworkWords,
  jailedNamespaceWords,
  maxOpenFiles,
  namespaceWords,
  withoutRightsWords,
} from './namespace.ts';

/** Firecracker's command line for a VM. Everything about its guest is asked for on its socket. */
export function firecrackerArguments(
  spec: Pick<FirecrackerSpec, 'id' | 'controlSocket' | 'vmmLog'>,
): string[] {
  return ['--id', processName(spec.id), ...ownArguments(spec.controlSocket, spec.vmmLog)];
}

/** Without its name, which a jailer adds. */
function ownArguments(socket: string, log: string): string[] {
  // How grave each line is, is how the one that says why it ended is told from what it says of each request.
  return ['--api-sock', socket, '--log-path', log, '--level', 'Info', '--show-level'];
}

/** A jail that was made for one start. */
export interface Jail extends Jailing, JailerOptions {
  readonly paths: JailPaths;
}

/** What a jailed VMM may use: as much of each as its guest has, and room for itself. */
export async function limitsOf(spec: FirecrackerSpec): Promise<JailerOptions> {
  const { hierarchies } = findControlGroups();
  return {
    cgroup: hierarchies && groupLimits(hierarchies, spec),
    maxOpenFiles: maxOpenFiles(),
    maxFileBytes: spec.disk && (await fileLimit(spec.disk.path)),
  };
}

/** Undefined for a Firecracker that runs without. Throws `host_unsupported` when it has to be jailed and cannot be. */
export function requireJail(program: string, spec: FirecrackerSpec, wish: JailerWish): Jailing | undefined {
  const question = { wish, program, id: spec.id, rights: readOwnRights() };
  const { jailing, reason } = decideJail(question);
  if (!jailing && wish === 'always') {
    throw new BangerError(
      'host_unsupported',
      `Firecracker has to be jailed, as the configuration says, and cannot be: ${reason}`,
      { hint: 'Let it run without where it must: set jailer = "auto" under [vmm] in the configuration' },
    );
  }
  if (jailing && (spec.vsock || spec.metricsFile)) {
    throw new BangerError('host_unsupported', 'A jailed Firecracker has neither vsock nor metrics', {
      hint: 'Let it run without its jailer: set jailer = "never" under [vmm] in the configuration',
    });
  }
  return jailing;
}

export function requireProgram(program: string): void {
  if (findProgram(program, vmmEnvironment()['PATH']) !== undefined) return;
  throw new BangerError('host_unsupported', `"${program}" is not installed or not in PATH`, {
    hint: 'See what is missing with: banger doctor',
  });
}

export function commandOf(
  program: string,
  spec: FirecrackerSpec,
  jail: Jail | undefined,
): readonly [string, ...string[]] {
  if (!jail) {
    const argv = [program, ...firecrackerArguments(spec)] as const;
    if (!spec.network.tap) return [...namespaceWords(), ...argv];
    return [...hostNetworkWords(), ...(process.getuid!() === 0 ? withoutRightsWords : []), ...argv];
  }
  const inside = ownArguments(insidePaths.socket, insidePaths.vmmLog);
  const { cgroup, maxFileBytes, maxOpenFiles: openFiles } = jail;
  const { directory } = jail.paths;
  const limits = { cgroup, maxFileBytes, maxOpenFiles: openFiles };
  return [
    // A tap of the host's is to be found where the host is.
    ...(spec.network.tap ? hostNetworkWords() : jailedNamespaceWords()),
    jail.jailer,
    ...jailerArguments(jail, { ...limits, id: spec.id, directory }, inside),
  ];
}

/** Paths as its Firecracker sees them. */
export function seenFrom(jail: Jail | undefined, spec: FirecrackerSpec): FirecrackerSpec {
  if (!jail) return spec;
  const { kernel, initrd, disk } = insidePaths;
  return { ...spec, kernel, initrd, disk: spec.disk && { ...spec.disk, path: disk } };
}
