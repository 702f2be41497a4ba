import Ajv from 'ajv';

type Json = Readonly<Record<string, unknown>>;

/** Why a request is none of the API's, in Firecracker's words; undefined for one that is. */
export type Validate = (method: string, path: string, body: unknown) => string | undefined;

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
  return (method, path, body) => {
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
