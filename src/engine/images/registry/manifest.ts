import * as z from 'zod/mini';
import { BangerError } from '../../../errors.ts';
import type { ImageConfig } from '../../../state/images.ts';

/** Content named by its hash. */
export interface Descriptor {
  readonly mediaType: string;
  readonly digest: string;
  readonly size: number;
}

export interface Platform {
  readonly os: string;
  readonly architecture: string;
}

export interface Manifest {
  readonly kind: 'manifest';
  readonly config: Descriptor;
  readonly layers: readonly Descriptor[];
}

export interface IndexEntry extends Descriptor {
  readonly platform?: Platform & { readonly variant?: string };
  /** What a layout calls it */
  readonly names: readonly string[];
}

export interface Index {
  readonly kind: 'index';
  readonly manifests: readonly IndexEntry[];
}

/** What an image's config says. */
export interface OciConfig {
  readonly platform: Platform;
  readonly config: ImageConfig;
  readonly diffIds: readonly string[];
}

const comma = 0x2c;
const openBracket = 0x5b;
const openBrace = 0x7b;

/** Largest manifest, index or config that is read: 4 MiB, as registries allow. */
export const maxDocumentBytes = 4 * 1024 * 1024;
const maxLayers = 500;
/** Values in a document: real ones have some thousands, and each costs those who wait for the engine time */
const maxValues = 100_000;
/** Variables, and words of a command: programs are not started with more than fit 2 MiB */
const maxStrings = 10_000;

/** What a registry is asked for, best first. */
export const manifestMediaTypes = [
  'application/vnd.oci.image.index.v1+json',
  'application/vnd.docker.distribution.manifest.list.v2+json',
  'application/vnd.oci.image.manifest.v1+json',
  'application/vnd.docker.distribution.manifest.v2+json',
] as const;

const configMediaTypes = [
  'application/vnd.oci.image.config.v1+json',
  'application/vnd.docker.container.image.v1+json',
];
const layerMediaTypes = [
  'application/vnd.oci.image.layer.v1.tar',
  'application/vnd.oci.image.layer.v1.tar+gzip',
  'application/vnd.oci.image.layer.v1.tar+zstd',
  'application/vnd.docker.image.rootfs.diff.tar',
  'application/vnd.docker.image.rootfs.diff.tar.gzip',
  'application/vnd.docker.image.rootfs.diff.tar.zstd',
];

const digest = z.string().check(z.regex(/^sha256:[0-9a-f]{64}$/, 'is not a SHA-256 digest'));
const descriptor = z.object({
  mediaType: z.string(),
  digest,
  size: z.int().check(z.nonnegative()),
});
const manifestSchema = z.object({
  schemaVersion: z.literal(2),
  mediaType: z.optional(z.string()),
  config: descriptor,
  layers: z
    .array(descriptor)
    .check(z.minLength(1, 'are none'), z.maxLength(maxLayers, `are more than ${maxLayers}`)),
});
/** Those that are read; there may be any others. */
const annotations = z.object({
  'vnd.docker.reference.type': z.optional(z.string()),
  'org.opencontainers.image.ref.name': z.optional(z.string()),
  'io.containerd.image.name': z.optional(z.string()),
});
const indexSchema = z.object({
  schemaVersion: z.literal(2),
  mediaType: z.optional(z.string()),
  manifests: z
    .array(
      z.extend(descriptor, {
        platform: z.optional(
          z.object({ os: z.string(), architecture: z.string(), variant: z.optional(z.string()) }),
        ),
        annotations: z.optional(z.nullable(annotations)),
      }),
    )
    .check(z.maxLength(maxLayers, `are more than ${maxLayers}`)),
});
const strings = z.optional(
  z.nullable(z.array(z.string()).check(z.maxLength(maxStrings, `are more than ${maxStrings}`))),
);
const configSchema = z.object({
  os: z.string(),
  architecture: z.string(),
  config: z.optional(
    z.nullable(
      z.object({
        Env: strings,
        Entrypoint: strings,
        Cmd: strings,
        WorkingDir: z.optional(z.nullable(z.string())),
        User: z.optional(z.nullable(z.string())),
      }),
    ),
  ),
  rootfs: z.object({
    type: z.literal('layers'),
    diff_ids: z.array(digest).check(z.maxLength(maxLayers, `are more than ${maxLayers}`)),
  }),
});

/** Parses a manifest or an index. `image` is for messages. */
export function parseManifest(bytes: Buffer, image: string): Manifest | Index {
  const document = parseJson(bytes, 'manifest', image);
  // A document that is both would be read as one thing by us and as the other by somebody who checks (CVE-2021-41190).
  if ('manifests' in document && ('layers' in document || 'config' in document)) {
    throw refused(image, 'its manifest claims to be an index as well');
  }
  if (document['schemaVersion'] === 1) {
    throw refused(image, 'it has a schema 1 manifest, which docker gave up in 2020', 'Push it again');
  }
  if ('manifests' in document) return parseIndex(document, image);

  const manifest = parse(manifestSchema, document, 'manifest', image);
  checkMediaType(manifest.mediaType, manifestMediaTypes.slice(2), 'manifest', image);
  checkMediaType(manifest.config.mediaType, configMediaTypes, 'config', image);
  for (const layer of manifest.layers) checkMediaType(layer.mediaType, layerMediaTypes, 'layer', image);
  return { kind: 'manifest', config: manifest.config, layers: manifest.layers };
}

function parseIndex(document: object, image: string): Index {
  const index = parse(indexSchema, document, 'index', image);
  checkMediaType(index.mediaType, manifestMediaTypes.slice(0, 2), 'index', image);
  const manifests = index.manifests.filter(
    (entry) =>
      entry.annotations?.['vnd.docker.reference.type'] === undefined && entry.platform?.os !== 'unknown',
  );
  return {
    kind: 'index',
    manifests: manifests.map(({ annotations, ...entry }) => ({ ...entry, names: namesIn(annotations) })),
  };
}

/** By image-spec's annotation, often a tag alone, and by the one that docker adds with the whole name. */
function namesIn(found: z.output<typeof annotations> | null | undefined): string[] {
  const keys = ['org.opencontainers.image.ref.name', 'io.containerd.image.name'] as const;
  return keys.flatMap((key) => found?.[key] ?? []);
}

/** Picks the manifest for a platform; an index that does not say what it holds may hold one manifest only. */
export function chooseManifest(index: Index, platform: Platform, image: string): Descriptor {
  const matches = index.manifests
    .filter((entry) => entry.platform && isPlatform(entry.platform, platform))
    // Without variant, or with the lowest, runs everywhere: "v8" is what arm64 is, "v1" what amd64 is.
    .toSorted((left, right) => rank(left).localeCompare(rank(right)));
  if (matches[0]) return matches[0];
  const [only] = index.manifests;
  if (only && index.manifests.length === 1 && !only.platform) return only;
  throw wrongPlatform(image, platform, index.manifests.map(platformText));
}

/** Parses an image config and checks that it is for this platform. */
export function parseOciConfig(bytes: Buffer, platform: Platform, image: string): OciConfig {
  const parsed = parse(configSchema, parseJson(bytes, 'config', image), 'config', image);
  if (!isPlatform(parsed, platform)) {
    throw wrongPlatform(image, platform, [`${parsed.os}/${parsed.architecture}`]);
  }
  const { Env, WorkingDir, User, Entrypoint, Cmd } = parsed.config ?? {};
  return {
    platform: { os: parsed.os, architecture: parsed.architecture },
    diffIds: parsed.rootfs.diff_ids,
    config: {
      env: Env ?? [],
      workingDirectory: WorkingDir || undefined,
      user: User || undefined,
      entrypoint: Entrypoint ?? undefined,
      command: Cmd ?? undefined,
    },
  };
}

/** The platform of images that run here: guests have the architecture of the host. */
export function guestPlatform(nodeArchitecture: string): Platform {
  const names: Readonly<Record<string, string>> = { x64: 'amd64' };
  return { os: 'linux', architecture: names[nodeArchitecture] ?? nodeArchitecture };
}

export function refused(
  image: string,
  why: string,
  hint = 'The image is at fault, or what sent it: try another tag or registry, or push it again',
): BangerError {
  return new BangerError('command_failed', `Image "${image}" is refused: ${why}`, { hint });
}

export function isPlatform(left: Platform, right: Platform): boolean {
  return left.os === right.os && left.architecture === right.architecture;
}

function rank(entry: IndexEntry): string {
  return entry.platform?.variant ?? '';
}

function platformText({ platform }: IndexEntry): string {
  if (!platform) return 'unknown';
  const variant = platform.variant ? `/${platform.variant}` : '';
  return `${platform.os}/${platform.architecture}${variant}`;
}

function wrongPlatform(image: string, wanted: Platform, present: readonly string[]): BangerError {
  const list = [...new Set(present)].slice(0, 20).join(', ') || 'nothing';
  return new BangerError(
    'not_found',
    `Image "${image}" is not made for ${wanted.os}/${wanted.architecture}; there is ${list}`,
    { hint: 'Choose an image that is made for this machine, such as: banger image pull debian' },
  );
}

function checkMediaType(
  type: string | undefined,
  allowed: readonly string[],
  what: string,
  image: string,
): void {
  if (type === undefined || allowed.includes(type)) return;
  const shown = JSON.stringify(type.slice(0, 100));
  if (what === 'layer' && /foreign|nondistributable/.test(type)) {
    throw refused(image, 'a layer is not distributed by the registry itself');
  }
  throw refused(image, `its ${what} has the type ${shown}, which is not part of a container image`);
}

function parseJson(bytes: Buffer, what: string, image: string): Record<string, unknown> {
  checkValues(bytes, what, image);
  try {
    const value: unknown = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
    if (typeof value === 'object' && value !== null && !Array.isArray(value))
      return value as Record<string, unknown>;
  } catch {
    // What the parser says about it would be the registry's text in our message.
  }
  throw refused(image, `its ${what} is not JSON`);
}

/** Refuses a document of more values than any has, before time is spent on them. Commas and brackets in texts count. */
export function checkValues(bytes: Buffer, what: string, image: string): void {
  let values = 0;
  for (const byte of bytes) if (byte === comma || byte === openBracket || byte === openBrace) values++;
  if (values > maxValues) throw refused(image, `its ${what} has more than ${maxValues} values`);
}

function parse<T extends z.ZodMiniType>(schema: T, value: unknown, what: string, image: string): z.output<T> {
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  throw refused(image, `its ${what} is not valid: "${issue?.path.join('.')}" ${issue?.message ?? ''}`.trim());
}
