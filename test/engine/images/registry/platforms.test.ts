import { expect, test } from 'vitest';
import {
  chooseManifest,
  guestPlatform,
  type Index,
  type IndexEntry,
} from '../../../../src/engine/images/registry/manifest.ts';

/** An index of platforms such as `linux/arm64/v8`; the digest says which one it was. */
function indexOf(...platforms: readonly string[]): Index {
  const manifests = platforms.map((text): IndexEntry => {
    const [os = '', architecture = '', variant] = text.split('/');
    return { mediaType: 'x', names: [], digest: text, size: 1, platform: { os, architecture, variant } };
  });
  return { kind: 'index', manifests };
}

test.each([
  ['arm64', ['linux/amd64', 'linux/arm64/v8'], 'linux/arm64/v8'],
  ['arm64', ['linux/amd64', 'linux/arm64'], 'linux/arm64'],
  ['arm64', ['linux/arm64/v8', 'linux/arm64'], 'linux/arm64'],
  ['arm64', ['linux/arm64/v9', 'linux/arm64/v8'], 'linux/arm64/v8'],
  ['arm64', ['linux/arm/v7', 'linux/arm/v8', 'linux/arm64/v8'], 'linux/arm64/v8'],
  ['arm64', ['windows/arm64', 'linux/arm64/v8'], 'linux/arm64/v8'],
  ['x64', ['linux/arm64/v8', 'linux/386', 'linux/amd64'], 'linux/amd64'],
  ['x64', ['linux/amd64/v3', 'linux/amd64/v1'], 'linux/amd64/v1'],
] as const)('a host of %s takes, of %j, %s', (arch, offered, chosen) => {
  expect(chooseManifest(indexOf(...offered), guestPlatform(arch), 'app').digest).toBe(chosen);
});

test.each([
  ['arm64', ['linux/amd64', 'linux/arm/v7'], 'there is linux/amd64, linux/arm/v7'],
  ['x64', ['linux/arm64/v8', 'windows/amd64'], 'there is linux/arm64/v8, windows/amd64'],
] as const)('a host of %s takes none of %j', (arch, offered, there) => {
  expect(() => chooseManifest(indexOf(...offered), guestPlatform(arch), 'app')).toThrow(there);
});
