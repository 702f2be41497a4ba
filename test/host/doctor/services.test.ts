import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { BangerError } from '../../../src/errors.ts';
import { exec } from '../../../src/host/exec.ts';
import { checkConfig, checkEngine, checkLoopback } from '../../../src/host/doctor/services.ts';

let root: string;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'banger-test-'));
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

test('a configuration passes when it can be read, there or not', () => {
  const file = join(root, 'config.toml');
  expect(checkConfig(file, () => ({}))).toMatchObject({
    status: 'pass',
    evidence: 'defaults: there is no file',
  });
  writeFileSync(file, '');
  expect(checkConfig(file, () => ({}))).toMatchObject({ status: 'pass', evidence: `${file} is valid` });
});

test('what is wrong with a configuration is said, with the way to correct it', () => {
  const result = checkConfig('/config.toml', () => {
    throw new BangerError('invalid_argument', 'unknown key "vm.cpu"', { hint: 'Correct it with: vi' });
  });
  expect(result).toMatchObject({
    status: 'fail',
    evidence: 'unknown key "vm.cpu"',
    fix: 'Correct it with: vi',
  });
});

test('an engine that listens is running, and one that is not is not started', async () => {
  const socket = join(root, 'engine.sock');
  expect(await checkEngine(socket)).toMatchObject({
    status: 'pass',
    evidence: 'not running; started when needed',
  });
  expect(readdirSync(root)).toEqual([]);

  const server = createServer((connection) => connection.resume());
  await new Promise<void>((resolve) => server.listen(socket, resolve));
  expect(await checkEngine(socket)).toMatchObject({ status: 'pass', evidence: 'running' });
  await new Promise((resolve) => server.close(resolve));
});

test('a socket that a dead engine left is no problem, and is left to the next one', async () => {
  const socket = join(root, 'engine.sock');
  const bind = `require('node:net').createServer().listen(process.argv[1], () => process.kill(process.pid, 'SIGKILL'))`;
  await exec([process.execPath, '-e', bind, socket], { okExitCodes: [-1] });
  expect(await checkEngine(socket)).toMatchObject({
    status: 'pass',
    evidence: 'not running; the next one replaces the socket that the last one left',
  });
  expect(readdirSync(root)).toEqual(['engine.sock']);
});

test('the loopback passes when a port can be had', async () => {
  expect((await checkLoopback()).status).toBe('pass');
  const refused = (): Promise<number> => Promise.reject(new Error('listen EADDRNOTAVAIL'));
  expect(await checkLoopback(refused)).toMatchObject({ status: 'fail', evidence: 'listen EADDRNOTAVAIL' });
});
