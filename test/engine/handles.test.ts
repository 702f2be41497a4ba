import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { HandleCache, type Handles } from '../../src/engine/handles.ts';

let root: string;
let handles: HandleCache;

const path = (id: string): string => join(root, id, 'handles.json');
const started: Handles = {
  process: { pid: 1, startTime: '1', bootId: 'b' },
  acceleration: 'tcg',
  driver: 'qemu',
  sshPort: 4242,
};

beforeEach(async () => {
  root = mkdtempSync(join(tmpdir(), 'banger-handles-'));
  handles = new HandleCache(path);
  await handles.set('web', started);
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

test('changes that come at once all hold, in memory and in the file', async () => {
  await Promise.all([
    handles.update('web', { hostname: 'web' }),
    handles.update('web', { expiresAtMs: 5 }),
    handles.update('web', { gitIdentity: 'me' }),
  ]);
  const all = { ...started, hostname: 'web', expiresAtMs: 5, gitIdentity: 'me' };
  expect(handles.get('web')).toEqual(all);
  expect(JSON.parse(readFileSync(path('web'), 'utf8'))).toEqual(all);
});

test('what was kept in memory while the file was written stays', async () => {
  const writing = handles.update('web', { hostname: 'web' });
  handles.keep('web', { expiresAtMs: 5 });
  await writing;
  expect(handles.get('web')).toMatchObject({ hostname: 'web', expiresAtMs: 5 });
});

test('a change that comes after the end makes neither handles nor a directory anew', async () => {
  const clearing = handles.clear('web').then(() => rmSync(dirname(path('web')), { recursive: true }));
  const late = handles.update('web', { expiresAtMs: 5 });
  await Promise.all([clearing, late]);
  handles.keep('web', { expiresAtMs: 5 });
  expect(handles.get('web')).toBeUndefined();
  expect(existsSync(dirname(path('web')))).toBe(false);
});

test('a change that cannot be written is told, changes nothing, and keeps nobody from the next', async () => {
  rmSync(path('web'));
  mkdirSync(path('web'));
  await expect(handles.update('web', { hostname: 'web' })).rejects.toThrow();
  expect(handles.get('web')).toEqual(started);
  rmSync(path('web'), { recursive: true });
  await handles.update('web', { expiresAtMs: 5 });
  expect(handles.get('web')).toEqual({ ...started, expiresAtMs: 5 });
});
