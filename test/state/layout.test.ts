import { expect, test } from 'vitest';
import { resolveLayout, vmPaths } from '../../src/state/layout.ts';

const input = { home: '/home/u', uid: 1000, temporaryDirectory: '/tmp' };

test('BANGER_HOME puts everything under one directory', () => {
  const layout = resolveLayout({ ...input, env: { BANGER_HOME: '/b' } });
  const paths = Object.values(layout) as string[];
  expect(paths.every((path) => path.startsWith('/b/'))).toBe(true);
});

test('XDG directories are used, and ones that are not absolute are ignored', () => {
  const layout = resolveLayout({ ...input, env: { XDG_STATE_HOME: '/s', XDG_CACHE_HOME: 'relative' } });
  expect(layout.stateDirectory).toBe('/s/banger');
  expect(layout.cacheDirectory).toBe('/home/u/.cache/banger');
});

test('engines of different state directories have different sockets', () => {
  const env = { XDG_RUNTIME_DIR: '/run/user/1000' };
  const one = resolveLayout({ ...input, env });
  const other = resolveLayout({ ...input, env: { ...env, XDG_STATE_HOME: '/s' } });
  expect(one.engineSocket).not.toBe(other.engineSocket);
});

test('sockets always fit into the 108 bytes of a socket address', () => {
  const layout = resolveLayout({ ...input, env: { BANGER_HOME: `/${'long/'.repeat(40)}` } });
  expect(Buffer.byteLength(vmPaths(layout, 'f'.repeat(32)).controlSocket)).toBeLessThan(108);
  expect(Buffer.byteLength(layout.engineSocket)).toBeLessThan(108);
});
