import { readFileSync } from 'node:fs';
import * as z from 'zod/mini';
import { BangerError, errnoOf, errorText } from '../errors.ts';
import { defaultDnsListen, dnsListenText, type DnsListen } from './dns-listen.ts';
import { egressAll, parseEgress, type EgressPolicy } from './egress.ts';
import { parseFileSync, type FileSync } from './file-sync.ts';
import { diskMethodNames, type DiskMethodName } from './disk-methods.ts';
import { durationText as duration, parseTomlFile, sizeText as size } from './toml.ts';

/** A boot's console must fit. */
const minLogBytes = 64 * 1024;
const defaultLogBytes = 8 * 1024 * 1024;
/** A guest that gets less does not boot in the time that it has. */
const minRateBytes = 1024 * 1024;
const maxFileSyncs = 100;

const fileSync = z.pipe(
  z.strictObject({
    /** Absolute, or below your home as "~/…" */
    host: z.string(),
    /** Absent: the path that it has below the home */
    guest: z.optional(z.string()),
    /** One that is missing is no error */
    optional: z.optional(z.boolean()),
  }),
  z.transform((entry, context): FileSync => {
    try {
      return parseFileSync(entry);
    } catch (error) {
      const hint = error instanceof BangerError && error.hint ? `. ${error.hint}` : '';
      context.issues.push({ code: 'custom', message: `${errorText(error)}${hint}`, input: entry });
      return z.NEVER;
    }
  }),
);

const egress = z.pipe(
  z.union([z.string(), z.array(z.string())]),
  z.transform((value, context): EgressPolicy => {
    try {
      return parseEgress(typeof value === 'string' ? [value] : value);
    } catch (error) {
      context.issues.push({ code: 'custom', message: errorText(error), input: value });
      return z.NEVER;
    }
  }),
);

/** `config.toml`. Every key is optional; a key that is not listed here is an error. */
const schema = z.strictObject({
  engine: z.optional(
    z.strictObject({
      /** How long the engine stays without VMs, operations or clients, such as "10m" */
      idle_timeout: z.optional(duration),
      /** How long a console, a VMM's log and the engine's own may grow before they are cut, such as "8M" */
      log_size: z.optional(
        size.check(z.refine((bytes) => bytes >= minLogBytes, `is less than ${minLogBytes / 1024}K`)),
      ),
    }),
  ),
  vm: z.optional(
    z.strictObject({
      image: z.optional(z.string().check(z.minLength(1))),
      cpus: z.optional(z.int().check(z.minimum(1))),
      memory: z.optional(size),
      disk: z.optional(size),
      /** `user`, `none`, or the name of a network */
      network: z.optional(z.string().check(z.minLength(1))),
      /** What VMs may reach outside: "all", "none", or rules */
      egress: z.optional(egress),
      /** How long a VM may run without being used before it is stopped, such as "30m" */
      idle_stop: z.optional(duration),
    }),
  ),
  vmm: z.optional(
    z.strictObject({
      driver: z.optional(z.enum(['auto', 'firecracker', 'qemu'])),
      /** Hardware acceleration: `auto` trusts a boot probe only */
      accel: z.optional(z.enum(['auto', 'kvm', 'tcg'])),
      /** Program names or absolute paths */
      qemu: z.optional(z.string()),
      firecracker: z.optional(z.string()),
      /** Whether Firecracker is started by its jailer where the engine is root */
      jailer: z.optional(z.enum(['auto', 'always', 'never'])),
    }),
  ),
  disk: z.optional(
    z.strictObject({
      /** How root disks of new VMs are made; `auto`: by the best means that their VMM and the filesystem have */
      method: z.optional(z.enum(['auto', ...diskMethodNames])),
      /** What a VM may read and write in a second, from its next start, such as "100M" */
      rate: z.optional(size.check(z.refine((bytes) => bytes >= minRateBytes, 'is less than 1M'))),
    }),
  ),
  dns: z.optional(
    z.strictObject({
      /** Where names of VMs are answered for: "auto", "off", or a place on the loopback such as "127.0.0.1:10053" */
      listen: z.optional(dnsListenText),
    }),
  ),
  git: z.optional(
    z.strictObject({
      /** Whether git in guests knows the user's name and address, as git here does */
      identity: z.optional(z.boolean()),
    }),
  ),
  /** Files and directories of the host that VMs get copies of at each start */
  file_sync: z.optional(z.array(fileSync).check(z.maxLength(maxFileSyncs))),
  mise: z.optional(
    z.strictObject({
      /** Address of the script by which a guest without mise gets it, when a tree wants tools */
      installer: z.optional(z.string().check(z.regex(/^https?:\/\/\S+$/, 'is not an address (https://…)'))),
    }),
  ),
  /** Short names of images, such as app = "ghcr.io/team/app:stable" */
  catalog: z.optional(
    z.record(
      z
        .string()
        .check(z.regex(/^[a-z0-9]+(?:[._-]+[a-z0-9]+)*$/, 'a short name is lowercase, without "/" and ":"')),
      z.string().check(z.minLength(1)),
    ),
  ),
  /** Kernels for `kernel pull NAME`, such as mine = "https://…#sha256=…"; with modules apart, an array of both */
  kernels: z.optional(
    z.record(z.string(), z.union([z.string(), z.array(z.string()).check(z.minLength(1), z.maxLength(2))])),
  ),
  /** By registry host, such as [registries."docker.io"] */
  registries: z.optional(
    z.record(
      z.string(),
      z.strictObject({
        /** Base URLs tried in order before the registry itself */
        mirrors: z.optional(z.array(z.string())),
        /** Speak plain HTTP. Registries on loopback do so without being asked. */
        insecure: z.optional(z.boolean()),
        /** Absolute path of a PEM file with the authorities to trust for this host, besides the host's own */
        ca: z.optional(z.string().check(z.regex(/^\//, 'is not an absolute path'))),
      }),
    ),
  ),
});

export interface RegistryConfig {
  readonly mirrors: readonly string[];
  readonly insecure: boolean;
  /** Path of a PEM file; absent: only what the host trusts */
  readonly ca?: string;
}

/** The configuration with its defaults filled in. */
export interface Config {
  readonly engineIdleTimeoutMs: number;
  /** A log that is longer is cut */
  readonly logBytes: number;
  /** Image of VMs that name none */
  readonly image: string;
  /** Absent: decided by the size of the host */
  readonly cpus?: number;
  readonly memoryBytes?: number;
  readonly diskBytes: number;
  /** Of VMs that name none */
  readonly network: string;
  /** Of VMs that say nothing of it */
  readonly egress: EgressPolicy;
  /** Absent: VMs run as long as they like */
  readonly idleStopMs?: number;
  readonly vmmDriver: 'auto' | 'firecracker' | 'qemu';
  readonly accel: 'auto' | 'kvm' | 'tcg';
  /** How root disks of new VMs are made */
  readonly diskMethod: 'auto' | DiskMethodName;
  /** What a VM may read and write in a second; absent: as much as the host can */
  readonly diskBytesPerSecond?: number;
  readonly qemuProgram: string;
  readonly firecrackerProgram: string;
  /** Whether that one is started by its jailer */
  readonly firecrackerJailer: 'auto' | 'always' | 'never';
  readonly dnsListen: DnsListen;
  /** Whether guests are told who the user is in git */
  readonly gitIdentity: boolean;
  readonly fileSync: readonly FileSync[];
  /** Address of the script by which guests get mise */
  readonly miseInstaller: string;
  /** The user's own short names of images, and what they stand for */
  readonly catalog: Readonly<Record<string, string>>;
  /** Addresses of a kernel and of its modules, if they are apart, by the name that `kernel pull` knows */
  readonly kernels: Readonly<Record<string, readonly string[]>>;
  readonly registries: Readonly<Record<string, RegistryConfig>>;
}

const defaultIdleTimeoutMs = 10 * 60 * 1000;
const gib = 1024 ** 3;

/** Reads the configuration. No file means defaults; a wrong one is an error that names file and key. */
export function loadConfig(file: string): Config {
  return parseConfig(readIfPresent(file), file);
}

/** Parses the text of a `config.toml`; `file` is for messages. */
export function parseConfig(text: string, file: string): Config {
  const parsed = parseTomlFile(schema, text, file);
  const { engine, vm, vmm, mise, catalog, kernels, registries } = parsed;
  return {
    engineIdleTimeoutMs: engine?.idle_timeout ?? defaultIdleTimeoutMs,
    logBytes: engine?.log_size ?? defaultLogBytes,
    image: vm?.image ?? 'base',
    cpus: vm?.cpus,
    memoryBytes: vm?.memory,
    diskBytes: vm?.disk ?? 8 * gib,
    network: vm?.network ?? 'user',
    egress: vm?.egress ?? egressAll,
    idleStopMs: vm?.idle_stop,
    vmmDriver: vmm?.driver ?? 'auto',
    accel: vmm?.accel ?? 'auto',
    diskMethod: parsed.disk?.method ?? 'auto',
    diskBytesPerSecond: parsed.disk?.rate,
    qemuProgram: vmm?.qemu ?? 'qemu-system-x86_64',
    firecrackerProgram: vmm?.firecracker ?? 'firecracker',
    firecrackerJailer: vmm?.jailer ?? 'auto',
    dnsListen: parsed.dns?.listen ?? defaultDnsListen,
    gitIdentity: parsed.git?.identity ?? true,
    fileSync: parsed.file_sync ?? [],
    miseInstaller: mise?.installer ?? 'https://mise.run',
    catalog: catalog ?? {},
    kernels: Object.fromEntries(Object.entries(kernels ?? {}).map(([name, urls]) => [name, [urls].flat()])),
    registries: Object.fromEntries(
      Object.entries(registries ?? {}).map(([host, entry]) => [
        host,
        { mirrors: entry.mirrors ?? [], insecure: entry.insecure ?? false, ca: entry.ca },
      ]),
    ),
  };
}

function readIfPresent(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return '';
    throw error;
  }
}
