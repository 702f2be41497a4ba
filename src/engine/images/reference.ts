import { BangerError } from '../../errors.ts';

/** Where an image is found, with everything that docker leaves implicit filled in. */
export interface Reference {
  /** Host, with its port when one was given, such as `docker.io` or `localhost:5000` */
  readonly registry: string;
  /** Path on that registry, such as `library/ubuntu` */
  readonly repository: string;
  /** Absent when only a digest was given */
  readonly tag?: string;
  /** `sha256:…`; decides over the tag */
  readonly digest?: string;
}

const defaultRegistry = 'docker.io';
const officialPrefix = 'library/';
const maxNameLength = 255;

const hostLabel = '(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])';
const hostPattern = new RegExp(`^(?:${hostLabel}(?:\\.${hostLabel})*|\\[[a-fA-F0-9:]+\\])(?::[0-9]+)?$`);
const pathPart = '[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*';
const repositoryPattern = new RegExp(`^${pathPart}(?:/${pathPart})*$`);
const tagPattern = /^\w[\w.-]{0,127}$/;
const digestPattern = /^sha256:[0-9a-f]{64}$/;
const idPattern = /^[0-9a-f]{64}$/;
const nameRules =
  'Names are lowercase letters and digits, with ".", "_", "-" and "/" between them: team/app:1.2';

/** Reads an image reference exactly as docker does: `ubuntu` is `docker.io/library/ubuntu:latest`. */
export function parseReference(text: string): Reference {
  if (text.includes('://')) {
    throw invalid(text, 'it is a URL', 'Leave out what comes before the host: ghcr.io/owner/name:tag');
  }
  const { name, tag, digest } = splitReference(text);
  if (/^\.{0,2}\//.test(text))
    throw invalid(
      text,
      'it is a path',
      'Make an image of the file first: banger image import FILE, or of a bundle: banger image pull FILE',
    );
  if (name === '') throw invalid(text, 'it has no name', 'Write a reference like ubuntu:24.04');
  if (idPattern.test(name)) {
    throw invalid(text, '64 hex digits are an image id, not a name', 'List images with: banger image list');
  }
  const { registry, repository } = splitRegistry(name);
  if (!hostPattern.test(registry)) throw invalid(text, `"${registry}" is not a registry host`);
  if (!repositoryPattern.test(repository)) throw invalidRepository(text, { name, repository });
  if (registry.length + 1 + repository.length > maxNameLength) {
    throw invalid(text, `its name is longer than ${maxNameLength} characters`);
  }
  if (tag !== undefined && !tagPattern.test(tag)) {
    throw invalid(text, `"${tag}" is not a tag`, 'Tags are letters, digits, "_", "." and "-", at most 128');
  }
  if (digest !== undefined && !digestPattern.test(digest)) {
    throw invalid(text, `"${digest}" is not a SHA-256 digest`, 'Digests are sha256: and 64 hex digits');
  }
  return { registry, repository, tag: tag ?? (digest === undefined ? 'latest' : undefined), digest };
}

/** The name an image is stored under. A digest replaces the tag, because it decides what is fetched. */
export function canonicalName({ registry, repository, tag, digest }: Reference): string {
  return `${registry}/${repository}${digest === undefined ? `:${tag}` : `@${digest}`}`;
}

/** The registry and repository of a stored name, without its tag or digest. */
export function repositoryOf(canonical: string): string {
  return canonical.replace(/(?:@|:[^/]*$).*/, '');
}

/** A stored name as people write it: without the default registry and its `library/`. */
export function familiarName(canonical: string): string {
  const hub = `${defaultRegistry}/`;
  if (!canonical.startsWith(hub)) return canonical;
  const path = canonical.slice(hub.length);
  if (path.startsWith(officialPrefix)) return path.slice(officialPrefix.length);
  return path;
}

function splitReference(text: string): { name: string; tag?: string; digest?: string } {
  const at = text.indexOf('@');
  const digest = at < 0 ? undefined : text.slice(at + 1);
  const rest = at < 0 ? text : text.slice(0, at);
  const colon = rest.lastIndexOf(':');
  // A colon before the last slash belongs to the port of the registry.
  if (colon < 0 || colon < rest.lastIndexOf('/')) return { name: rest, digest };
  return { name: rest.slice(0, colon), tag: rest.slice(colon + 1), digest };
}

/** The first component is a registry only if it could not be a path: it has a dot, a port or capitals, or is localhost. */
function splitRegistry(name: string): { registry: string; repository: string } {
  const slash = name.indexOf('/');
  const first = name.slice(0, slash);
  const isRegistry =
    slash >= 0 && (/[.:]/.test(first) || first === 'localhost' || first !== first.toLowerCase());
  const host = isRegistry ? first : defaultRegistry;
  const registry = host === 'index.docker.io' ? defaultRegistry : host;
  const path = isRegistry ? name.slice(slash + 1) : name;
  const isOfficial = registry === defaultRegistry && !path.includes('/');
  return { registry, repository: isOfficial ? officialPrefix + path : path };
}

function invalidRepository(
  text: string,
  { name, repository }: { readonly name: string; readonly repository: string },
): BangerError {
  if (repository === repository.toLowerCase())
    return invalid(text, `"${repository}" is not a repository name`, nameRules);
  // The registry is in capitals or not, as it was written, and a tag means what it says.
  const registryEnd = name.endsWith(repository) ? name.length - repository.length : 0;
  const meant = name.slice(0, registryEnd) + name.slice(registryEnd).toLowerCase() + text.slice(name.length);
  const hint = isReference(meant) ? `Did you mean "${meant}"?` : nameRules;
  return invalid(text, 'repository names are lowercase', hint);
}

function isReference(text: string): boolean {
  try {
    parseReference(text);
    return true;
  } catch (error) {
    if (error instanceof BangerError) return false;
    throw error;
  }
}

function invalid(text: string, why: string, hint?: string): BangerError {
  return new BangerError('invalid_argument', `"${text}" is not an image reference: ${why}`, { hint });
}
