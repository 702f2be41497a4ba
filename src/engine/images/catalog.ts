import { BangerError } from '../../errors.ts';
import { parseReference, type Reference } from './reference.ts';

/** The user's own short names, from the configuration, and what they stand for. */
export type OwnCatalog = Readonly<Record<string, string>>;

export interface CatalogEntry {
  readonly name: string;
  /** Full reference; a tag that the user gives replaces its tag */
  readonly reference: string;
  readonly description: string;
}

/**
 * Short names for images that people start with. Where Docker Hub has an official image of the name, it is that
 * one; the others are names that nobody would have to look up.
 */
export const embeddedCatalog: readonly CatalogEntry[] = [
  { name: 'alma', reference: 'docker.io/library/almalinux', description: 'AlmaLinux' },
  { name: 'alpine', reference: 'docker.io/library/alpine', description: 'Alpine Linux, small' },
  { name: 'amazonlinux', reference: 'docker.io/library/amazonlinux', description: 'Amazon Linux' },
  { name: 'arch', reference: 'docker.io/library/archlinux', description: 'Arch Linux' },
  { name: 'bun', reference: 'docker.io/oven/bun', description: 'Bun on Debian' },
  { name: 'busybox', reference: 'docker.io/library/busybox', description: 'Busybox alone' },
  { name: 'debian', reference: 'docker.io/library/debian', description: 'Debian stable' },
  { name: 'deno', reference: 'docker.io/denoland/deno', description: 'Deno on Debian' },
  {
    name: 'devcontainer',
    reference: 'mcr.microsoft.com/devcontainers/base:debian',
    description: 'Debian with git, zsh and the user vscode',
  },
  { name: 'dotnet', reference: 'mcr.microsoft.com/dotnet/sdk', description: '.NET SDK on Debian' },
  { name: 'elixir', reference: 'docker.io/library/elixir', description: 'Elixir and Erlang on Debian' },
  { name: 'fedora', reference: 'docker.io/library/fedora', description: 'Fedora' },
  { name: 'go', reference: 'docker.io/library/golang', description: 'Go on Debian' },
  {
    name: 'java',
    reference: 'docker.io/library/eclipse-temurin',
    description: 'Eclipse Temurin JDK on Ubuntu',
  },
  { name: 'nix', reference: 'docker.io/nixos/nix', description: 'The Nix package manager' },
  { name: 'node', reference: 'docker.io/library/node', description: 'Node.js on Debian' },
  { name: 'perl', reference: 'docker.io/library/perl', description: 'Perl on Debian' },
  { name: 'php', reference: 'docker.io/library/php', description: 'PHP on Debian' },
  { name: 'python', reference: 'docker.io/library/python', description: 'Python on Debian' },
  { name: 'rocky', reference: 'docker.io/rockylinux/rockylinux:9', description: 'Rocky Linux' },
  { name: 'ruby', reference: 'docker.io/library/ruby', description: 'Ruby on Debian' },
  { name: 'rust', reference: 'docker.io/library/rust', description: 'Rust on Debian' },
  { name: 'suse', reference: 'docker.io/opensuse/leap', description: 'openSUSE Leap' },
  { name: 'swift', reference: 'docker.io/library/swift', description: 'Swift on Ubuntu' },
  { name: 'tumbleweed', reference: 'docker.io/opensuse/tumbleweed', description: 'openSUSE Tumbleweed' },
  {
    name: 'ubi',
    reference: 'registry.access.redhat.com/ubi9/ubi',
    description: 'Red Hat Universal Base Image 9',
  },
  { name: 'ubuntu', reference: 'docker.io/library/ubuntu', description: 'Ubuntu LTS' },
];

/** Embedded entries and the user's own, which replace those of the same name; sorted by name. */
export function wholeCatalog(own: OwnCatalog): (CatalogEntry & { readonly isOwn: boolean })[] {
  const entries = new Map(embeddedCatalog.map((entry) => [entry.name, { ...entry, isOwn: false }]));
  for (const [name, reference] of Object.entries(own))
    entries.set(name, { name, reference, description: '', isOwn: true });
  return [...entries.values()].sort((left, right) => (left.name < right.name ? -1 : 1));
}

/**
 * What a short name of the catalog stands for, with the tag or digest that was written behind it; undefined for
 * any other reference. Only a name alone is short: `ubuntu` and `ubuntu:22.04`, not `library/ubuntu`.
 */
export function expandShortName(reference: string, own: OwnCatalog): string | undefined {
  const [, name, version] = /^([a-z0-9]+(?:[._-]+[a-z0-9]+)*)([:@].*)?$/.exec(reference) ?? [];
  if (name === undefined) return undefined;
  const target = Object.hasOwn(own, name)
    ? ownReference(name, own[name]!)
    : embeddedCatalog.find((entry) => entry.name === name)?.reference;
  if (target === undefined || version === undefined) return target;
  const { registry, repository } = parseReference(target);
  return `${registry}/${repository}${version}`;
}

function ownReference(name: string, reference: string): string {
  let parsed: Reference;
  try {
    parsed = parseReference(reference);
  } catch (error) {
    if (!(error instanceof BangerError)) throw error;
    throw new BangerError('invalid_argument', `Catalog entry "${name}": ${error.message}`, {
      hint: 'Correct it under [catalog] in config.toml. All entries are listed by: banger image catalog',
      cause: error,
    });
  }
  // Written out, so that an entry may bear the name of what it leads to.
  const version = parsed.digest === undefined ? `:${parsed.tag}` : `@${parsed.digest}`;
  return `${parsed.registry}/${parsed.repository}${version}`;
}
