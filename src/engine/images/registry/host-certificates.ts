import { readdirSync, readFileSync, statSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { BangerError, errnoOf } from '../../../errors.ts';
import type { RegistryConfig } from '../../../state/config.ts';

/** What connections to one host are made with, besides the certificates that everybody trusts. */
export interface HostCertificates {
  /** Changes when the files do */
  readonly version: string;
  /** PEM; certificates of authorities to trust */
  readonly ca: readonly string[];
  /** PEM; who we are, for registries that ask */
  readonly client?: { readonly cert: string; readonly key: string };
}

/** Finds the certificates for a host as it is in URLs, such as `registry.example:5000`. */
export type FindCertificates = (host: string) => HostCertificates | undefined;

/** Where docker and podman, with root and without, look for `HOST/*.crt` and `HOST/*.cert` with `*.key`. */
function certificateDirectories(home: string): string[] {
  return [
    '/etc/docker/certs.d',
    '/etc/containers/certs.d',
    join(home, '.config/docker/certs.d'),
    join(home, '.config/containers/certs.d'),
  ];
}

/** Looks in the configuration (`ca` of a registry) and where docker has them. */
export function hostCertificates(
  registries: () => Readonly<Record<string, RegistryConfig>>,
  directories: readonly string[] = certificateDirectories(homedir()),
): FindCertificates {
  const cache = new Map<string, HostCertificates>();
  return (host) => {
    const configured = registries()[host]?.ca;
    const files = [
      ...(configured === undefined ? [] : [configured]),
      ...directories.flatMap((directory) => filesIn(join(directory, host))),
    ];
    if (files.length === 0) return undefined;
    const version = files
      .map((file) => `${file}:${statSync(file, { throwIfNoEntry: false })?.mtimeMs}`)
      .join();
    const known = cache.get(host);
    if (known?.version === version) return known;
    const found = { version, ...readAll(host, files, configured) };
    cache.set(host, found);
    return found;
  };
}

function readAll(
  host: string,
  files: readonly string[],
  configured: string | undefined,
): Omit<HostCertificates, 'version'> {
  const ca = files
    .filter((file) => file === configured || file.endsWith('.crt'))
    .map((file) => readPem(host, file));
  const cert = files.find((file) => file.endsWith('.cert'));
  const key = cert?.replace(/\.cert$/, '.key');
  if (cert === undefined || key === undefined || !files.includes(key)) return { ca };
  return { ca, client: { cert: readPem(host, cert), key: readPem(host, key) } };
}

function readPem(host: string, file: string): string {
  try {
    const text = readFileSync(file, 'utf8');
    if (text.includes('-----BEGIN ')) return text;
  } catch (error) {
    throw new BangerError(
      'invalid_argument',
      `The certificate file "${file}" for registry "${host}" cannot be read`,
      {
        hint: 'Correct the path under [registries] in the config, or make the file readable',
        cause: error,
      },
    );
  }
  throw new BangerError(
    'invalid_argument',
    `"${file}", for registry "${host}", holds no certificate in PEM form`,
    {
      hint: `Convert it with: openssl x509 -inform der -in ${file} -out ca.pem`,
    },
  );
}

function filesIn(directory: string): string[] {
  try {
    return readdirSync(directory)
      .filter((name) => /\.(crt|cert|key)$/.test(name))
      .toSorted()
      .map((name) => join(directory, name));
  } catch (error) {
    if (['ENOENT', 'ENOTDIR', 'EACCES'].includes(errnoOf(error) ?? '')) return [];
    throw error;
  }
}
