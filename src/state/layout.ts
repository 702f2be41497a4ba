import { join } from 'node:path';
import { BangerError } from '../errors.ts';
import type { DiskMethodName } from './disk-methods.ts';

/** Every path banger uses, named once. Directories are made where they are first needed, with mode 0700. */
export interface Layout {
  readonly configFile: string;
  readonly stateDirectory: string;
  readonly database: string;
  /** SQLite file whose lock says that an engine owns this state directory; freed by the kernel when it dies */
  readonly engineLock: string;
  /** Held by a client while it starts an engine, so that fifty clients start one */
  readonly startLock: string;
  readonly engineLog: string;
  /** Where the last engine says on which host it is, and where it listens */
  readonly engineNote: string;
  /** Key pair by which guests know us */
  readonly clientKey: string;
  /** How OpenSSH reaches VMs, and the host keys by which it knows them */
  readonly sshConfig: string;
  readonly knownHosts: string;
  readonly vmsDirectory: string;
  readonly imagesDirectory: string;
  /** Images under construction; whatever an engine finds here at start is left over */
  readonly imageStagingDirectory: string;
  readonly kernelsDirectory: string;
  /** What an engine has found that its database does not know; absent when there is nothing */
  readonly unownedNote: string;
  /** Patches saved from VMs that were thrown away */
  readonly patchesDirectory: string;
  /** Trees and patches on their way; whatever an engine finds here at start is left over */
  readonly scratchDirectory: string;
  readonly cacheDirectory: string;
  readonly blobsDirectory: string;
  readonly assetsDirectory: string;
  /** What was found out about KVM, by VMM */
  readonly kvmProbeFile: string;
  readonly firecrackerProbeFile: string;
  /** Sockets: private, short enough for the 108 bytes of a socket address */
  readonly runtimeDirectory: string;
  readonly engineSocket: string;
}

/** Paths of one VM. */
export interface VmPaths {
  readonly directory: string;
  /** What of its root disk is its own, by how that was made */
  readonly disk: (method: DiskMethodName) => string;
  readonly initrd: string;
  readonly hostKey: string;
  readonly consoleLog: string;
  readonly vmmLog: string;
  readonly handles: string;
  /** What its workspaces were made of */
  readonly manifests: string;
  readonly controlSocket: string;
  /** Where we listen for a socket that is published at a path of the user's */
  readonly publishedSocket: (hostPath: string) => string;
}

export interface LayoutInput {
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly home: string;
  readonly uid: number;
  readonly temporaryDirectory: string;
}

/** Longest address of a Unix socket on Linux, without its terminating zero. */
const maxSocketPath = 107;
/** The host's, for all of its users: what was changed of it for as long as it runs. */
export const hostMarkersDirectory = '/run/banger';

const longestSocketName = '/0123456789ab.control';

/** Variables that decide where everything lives. */
export const layoutVariables = [
  'BANGER_HOME',
  'XDG_CONFIG_HOME',
  'XDG_STATE_HOME',
  'XDG_CACHE_HOME',
  'XDG_RUNTIME_DIR',
] as const;

/**
 * Decides where everything lives, touching nothing. Throws `invalid_argument` when that would depend on the current
 * directory: another one would have other VMs.
 *
 * `BANGER_HOME` puts all of it under one directory. Otherwise the XDG directories are used; sockets of
 * different state directories never meet, because their directory is named after a hash of it.
 */
export function resolveLayout({ env, home, uid, temporaryDirectory }: LayoutInput): Layout {
  const root = rootOf(env['BANGER_HOME']);
  if (!root && !home.startsWith('/'))
    throw new BangerError(
      'invalid_argument',
      `The home directory is "${home}", which is another place in each directory`,
      {
        hint: 'Set HOME to all of its path, or say where VMs and images are to be: BANGER_HOME=/… banger …',
      },
    );
  const config = root ?? join(absolute(env['XDG_CONFIG_HOME']) ?? join(home, '.config'), 'banger');
  const state = root
    ? join(root, 'state')
    : join(absolute(env['XDG_STATE_HOME']) ?? join(home, '.local/state'), 'banger');
  const cache = root
    ? join(root, 'cache')
    : join(absolute(env['XDG_CACHE_HOME']) ?? join(home, '.cache'), 'banger');
  const xdgRuntime = absolute(env['XDG_RUNTIME_DIR']);
  const hash = shortHash(state);
  const runtimeCandidates = [
    root ? join(root, 'run') : xdgRuntime ? join(xdgRuntime, 'banger', hash) : undefined,
    join(temporaryDirectory, `banger-${uid}-${hash}`),
    join('/tmp', `banger-${uid}-${hash}`),
  ].filter((path) => path !== undefined);
  const runtime =
    runtimeCandidates.find((path) => Buffer.byteLength(path + longestSocketName) <= maxSocketPath) ??
    runtimeCandidates.at(-1)!;

  return {
    configFile: join(config, 'config.toml'),
    stateDirectory: state,
    database: join(state, 'banger.db'),
    engineLock: join(state, 'engine.lock'),
    startLock: join(state, 'engine-start'),
    engineLog: join(state, 'engine.log'),
    engineNote: join(state, 'engine.json'),
    clientKey: join(state, 'ssh', 'id_ed25519'),
    sshConfig: join(state, 'ssh', 'config'),
    knownHosts: join(state, 'ssh', 'known_hosts'),
    vmsDirectory: join(state, 'vms'),
    imagesDirectory: join(state, 'images'),
    imageStagingDirectory: join(state, 'images', '.staging'),
    kernelsDirectory: join(state, 'kernels'),
    unownedNote: join(state, 'unowned.json'),
    patchesDirectory: join(state, 'patches'),
    scratchDirectory: join(state, 'scratch'),
    cacheDirectory: cache,
    blobsDirectory: join(cache, 'blobs', 'sha256'),
    assetsDirectory: join(cache, 'assets'),
    kvmProbeFile: join(cache, 'kvm-probe.json'),
    firecrackerProbeFile: join(cache, 'firecracker-probe.json'),
    runtimeDirectory: runtime,
    engineSocket: join(runtime, 'engine.sock'),
  };
}

/** Named after what is in them, for whoever looks. */
const diskFiles: Readonly<Record<DiskMethodName, string>> = {
  qcow2: 'disk.qcow2',
  reflink: 'disk.raw',
  copy: 'disk.raw',
  // What differs from the image, as device-mapper writes it.
  'dm-snapshot': 'disk.cow',
};

/** Paths of the VM with this id. They hold the id, never the name: names change, and undo must find them untold. */
export function vmPaths(layout: Layout, id: string): VmPaths {
  const directory = join(layout.vmsDirectory, id);
  return {
    directory,
    disk: (method) => join(directory, diskFiles[method]),
    initrd: join(directory, 'initrd.cpio'),
    hostKey: join(directory, 'host_key'),
    consoleLog: join(directory, 'console.log'),
    vmmLog: join(directory, 'vmm.log'),
    handles: join(directory, 'handles.json'),
    manifests: join(directory, 'workspaces'),
    controlSocket: join(layout.runtimeDirectory, `${id.slice(0, 12)}.control`),
    publishedSocket: (hostPath) =>
      join(layout.runtimeDirectory, `${id.slice(0, 12)}.${shortHash(hostPath).slice(0, 7)}`),
  };
}

export interface ImagePaths {
  readonly directory: string;
  readonly rootfs: string;
  /** The documents it was made from, byte for byte, when there were any */
  readonly manifest: string;
  readonly config: string;
  /** The manifest of a name that was pulled with another one, by the digest it was pulled by */
  readonly manifestOf: (digest: string) => string;
}

/** Where a published image keeps its filesystem. `id` is the hex part of the image's digest. */
export function imagePaths(layout: Layout, id: string): ImagePaths {
  return imageFiles(join(layout.imagesDirectory, id));
}

/** The same in any directory, such as one in which an image is being made. */
export function imageFiles(directory: string): ImagePaths {
  return {
    directory,
    rootfs: join(directory, 'rootfs.ext4'),
    manifest: join(directory, 'manifest.json'),
    config: join(directory, 'config.json'),
    manifestOf: (digest) => join(directory, `manifest-${digest.replace('sha256:', '')}.json`),
  };
}

/** Says of the directory of an image or a kernel that it has no row yet, or is to have none any more. */
export function rowlessMark(directory: string): string {
  return join(directory, '.rowless');
}

/** Paths of one kernel. */
export interface KernelPaths {
  readonly directory: string;
  /** The uncompressed kernel, an ELF file */
  readonly vmlinux: string;
  /** Only of kernels that QEMU cannot boot uncompressed */
  readonly bzImage: string;
  readonly modules: string;
  readonly manifest: string;
}

/** Where a published kernel is, or, by `parent`, one under construction. */
export function kernelPaths(layout: Layout, id: string, parent = layout.kernelsDirectory): KernelPaths {
  const directory = join(parent, id);
  return {
    directory,
    vmlinux: join(directory, 'vmlinux'),
    bzImage: join(directory, 'bzImage'),
    modules: join(directory, 'modules.cpio'),
    manifest: join(directory, 'kernel.json'),
  };
}

function rootOf(path: string | undefined): string | undefined {
  if (path === undefined || path === '') return undefined;
  if (path.startsWith('/')) return path;
  throw new BangerError(
    'invalid_argument',
    `BANGER_HOME is "${path}", which is another place in each directory`,
    {
      hint: 'Give all of the path: BANGER_HOME=/… banger …',
    },
  );
}

/** XDG variables that are not absolute paths must be ignored, says the specification. */
function absolute(path: string | undefined): string | undefined {
  return path?.startsWith('/') ? path : undefined;
}

/** FNV-1a, 32 bits, twice. Names files only; loading `node:crypto` for it would cost every command 5 ms. */
function shortHash(text: string): string {
  const half = (seed: number): string => {
    let hash = seed;
    for (const byte of Buffer.from(text)) hash = Math.imul(hash ^ byte, 0x01000193) >>> 0;
    return hash.toString(16).padStart(8, '0');
  };
  return half(0x811c9dc5) + half(0x9747b28c).slice(0, 4);
}
