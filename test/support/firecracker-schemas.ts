import Ajv from 'ajv';

type Json = Readonly<Record<string, unknown>>;

/** Why a request is none of the API's, in Firecracker's words; undefined for one that is. */
export type Validate = (
  request: { readonly method: string; readonly path: string; readonly body: unknown },
  release: string,
) => string | undefined;

/**
 * What the specification has, which is that of one release, and the oldest ones that are used have not: a path, or a
 * field of a body, and the first release that takes it. As far as it is known; one that is named too late here is one
 * that our driver may not use.
 */
const since: readonly { readonly path: RegExp; readonly field?: string; readonly release: string }[] = [
  { path: /^\/(?:serial|hotplug\/memory)$/, release: '1.14' },
  { path: /^\/pmem\//, release: '1.14' },
  { path: /^\/balloon\/hinting\//, release: '1.14' },
  { path: /^\/balloon$/, field: 'free_page_hinting', release: '1.14' },
  { path: /^\/balloon$/, field: 'free_page_reporting', release: '1.14' },
  { path: /^\/network-interfaces\//, field: 'mtu', release: '1.17' },
  { path: /^\/metrics$/, field: 'emit_id', release: '1.17' },
  { path: /^\/metrics$/, field: 'properties', release: '1.17' },
];

/** Why a release does not take what later ones do. */
function tooEarly(path: string, body: unknown, release: string): string | undefined {
  const has = (field: string): boolean => typeof body === 'object' && body !== null && field in body;
  const found = since.find(
    (one) =>
      one.path.test(path) && (one.field === undefined || has(one.field)) && isBefore(release, one.release),
  );
  if (!found) return undefined;
  return found.field === undefined
    ? `Invalid request method and/or path: PUT ${path.slice(1)}.`
    : `An error occurred when deserializing the json body of a request: unknown field \`${found.field}\`.`;
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
    const early = tooEarly(path, body, release);
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
