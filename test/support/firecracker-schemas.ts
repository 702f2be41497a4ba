import Ajv from 'ajv';

type Json = Readonly<Record<string, unknown>>;

/** Why a request is none of the API's, in Firecracker's words; undefined for one that is. */
export type Validate = (
  request: { readonly method: string; readonly path: string; readonly body: unknown },
  release: string,
) => string | undefined;

/** What came into the API after the oldest releases that are used: a path, or a field of its body. */
interface Addition {
  readonly path: RegExp;
  /** Any unless given */
  readonly method?: string;
  readonly field?: string;
  /** Of the field; any unless given */
  readonly value?: string;
  /** The first that takes it */
  readonly release: string;
}

/**
 * The specification is that of one release, 1.17.0-dev. This is what of it releases since 1.7 have added, by upstream's
 * CHANGELOG.md (as of what came after 1.16.1, which is 1.17 here). `discard` of drives, which is in there too, is not in
 * that specification, and refused by any release.
 */
const additions: readonly Addition[] = [
  { path: /^\/snapshot\/load$/, field: 'network_overrides', release: '1.12' },
  { path: /^\/snapshot\/load$/, field: 'track_dirty_pages', release: '1.13' },
  { path: /^\/mmds\/config$/, field: 'imds_compat', release: '1.13' },
  { path: /^\/(?:serial|hotplug\/memory)$/, release: '1.14' },
  { path: /^\/pmem\//, method: 'PUT', release: '1.14' },
  { path: /^\/balloon\/hinting\//, release: '1.14' },
  { path: /^\/balloon$/, field: 'free_page_hinting', release: '1.14' },
  { path: /^\/balloon$/, field: 'free_page_reporting', release: '1.14' },
  { path: /^\/network-interfaces\//, field: 'mtu', release: '1.16' },
  { path: /^\/(?:serial$|pmem\/)/, field: 'rate_limiter', release: '1.16' },
  { path: /^\/pmem\//, method: 'PATCH', release: '1.16' },
  { path: /^\/snapshot\/load$/, field: 'vsock_override', release: '1.16' },
  { path: /^\/snapshot\/load$/, field: 'clock_realtime', release: '1.16' },
  { path: /^\/snapshot\/load$/, field: 'huge_pages', release: '1.17' },
  { path: /^\/machine-config$/, field: 'huge_pages', value: 'Transparent', release: '1.17' },
  { path: /^\/metrics$/, field: 'emit_id', release: '1.17' },
  { path: /^\/metrics$/, field: 'properties', release: '1.17' },
];

/** Why a release does not take what later ones do, in the words that it has for it. */
function tooEarly(request: Parameters<Validate>[0], release: string): string | undefined {
  const { method, path, body } = request;
  const given = typeof body === 'object' && body !== null ? (body as Json) : {};
  const found = additions.find(
    (one) =>
      one.path.test(path) &&
      (one.method === undefined || one.method === method) &&
      (one.field === undefined || one.field in given) &&
      (one.value === undefined || given[one.field ?? ''] === one.value) &&
      isBefore(release, one.release),
  );
  if (!found) return undefined;
  if (found.field === undefined) return `Invalid request method and/or path: ${method} ${path.slice(1)}.`;
  const trouble =
    found.value === undefined ? `unknown field \`${found.field}\`` : `unknown variant \`${found.value}\``;
  return `An error occurred when deserializing the json body of a request: ${trouble}.`;
}

function isBefore(release: string, other: string): boolean {
  const [major = 0, minor = 0] = release.split('.').map(Number);
  const [otherMajor = 0, otherMinor = 0] = other.split('.').map(Number);
  return major < otherMajor || (major === otherMajor && minor < otherMinor);
}

/**
 * Checks requests against a Swagger 2.0 document. Stricter than the document, as Firecracker itself is: a field that
 * it does not list is an error.
 */
export function validatorOf(specification: Json): Validate {
  const ajv = new Ajv({ unknownFormats: 'ignore', allErrors: true, logger: false });
  ajv.addSchema({ definitions: closed(specification['definitions']) }, 'api');
  const paths = Object.entries(specification['paths'] as Record<string, Json>).map(([template, methods]) => ({
    pattern: new RegExp(`^${template.replaceAll(/\{\w+\}/g, '[^/]+')}$`),
    methods,
  }));
  return ({ method, path, body }, release) => {
    const early = tooEarly({ method, path, body }, release);
    if (early !== undefined) return early;
    const found = paths.find(({ pattern }) => pattern.test(path))?.methods[method.toLowerCase()] as
      | {
          readonly parameters?: readonly {
            readonly in: string;
            readonly schema?: { readonly $ref: string };
          }[];
        }
      | undefined;
    if (!found) return `Invalid request method and/or path: ${method} ${path.slice(1)}.`;
    const reference = found.parameters?.find((one) => one.in === 'body')?.schema?.$ref;
    if (reference === undefined || ajv.validate(`api${reference}`, body) === true) return undefined;
    return `An error occurred when deserializing the json body of a request: ${ajv.errorsText()}.`;
  };
}

/** The same definitions, but for objects that list their fields: those may have no others. */
function closed(definitions: unknown): Json {
  return Object.fromEntries(
    Object.entries(definitions as Record<string, Json>).map(([name, definition]) => [
      name,
      definition['type'] === 'object' && definition['properties'] !== undefined
        ? { additionalProperties: false, ...definition }
        : definition,
    ]),
  );
}
