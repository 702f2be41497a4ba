import { createSocket } from 'node:dgram';
import { Resolver } from 'node:dns/promises';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { NameService, type NameServiceOptions } from '../../../src/engine/names/name-service.ts';
import { parseConfig } from '../../../src/state/config.ts';
import { changeVm, deleteVmRow, moveVm, type Vm } from '../../../src/state/vms.ts';
import { addVm } from '../../support/add-vm.ts';
import { fakeEngine, testImageId, type FakeEngine } from '../../support/fake-engine.ts';

let engine: FakeEngine;
const services: NameService[] = [];
beforeEach(() => void (engine = fakeEngine()));
afterEach(async () => {
  for (const service of services.splice(0)) await service.close();
  await engine.close();
});

/** VMs whose name does not begin with "user" have an address. */
const addresses = ({ name }: Vm): string[] => (name.startsWith('user') ? [] : ['10.77.0.2']);

function open(toml: string, options: NameServiceOptions = {}): NameService {
  const service = new NameService(
    { ...engine.context, config: () => parseConfig(toml, 'config.toml') },
    { addresses, ...options },
  );
  services.push(service);
  return service;
}

function run(name: string): Vm {
  const { id } = addVm(engine.context, name, testImageId);
  for (const state of ['stopped', 'starting'] as const) moveVm(engine.context.db, id, state);
  return moveVm(engine.context.db, id, 'running');
}

async function resolve(service: NameService, name: string): Promise<string[] | string> {
  const resolver = new Resolver({ timeout: 2000, tries: 1 });
  resolver.setServers([service.place!]);
  return resolver.resolve4(name).catch((error: unknown) => (error as { code: string }).code);
}

test('a name follows its VM from start to stop, through another name to its end', async () => {
  const service = open('[dns]\nlisten = "127.0.0.1:0"');
  await service.look();
  expect(await resolve(service, 'web.vm')).toBe('ENOTFOUND');
  const { id } = run('web');
  await service.look();
  expect(await resolve(service, 'web.vm')).toEqual(['10.77.0.2']);
  moveVm(engine.context.db, id, 'stopping');
  moveVm(engine.context.db, id, 'stopped');
  await service.look();
  expect(await resolve(service, 'web.vm')).toBe('ENODATA');
  changeVm(engine.context.db, id, { name: 'shop' });
  await service.look();
  expect(await resolve(service, 'web.vm')).toBe('ENOTFOUND');
  deleteVmRow(engine.context.db, id);
  await service.look();
  expect(await resolve(service, 'shop.vm')).toBe('ENOTFOUND');
});

test('an engine that has just started knows what the last one knew', async () => {
  run('web');
  const service = open('[dns]\nlisten = "127.0.0.1:0"');
  await service.look();
  expect(await resolve(service, 'web.vm')).toEqual(['10.77.0.2']);
});

test('nothing listens until a VM has an address of its own, nor after the last one has gone', async () => {
  const port = await freePort();
  const place = { address: '127.0.0.1', port };
  const config = { ...parseConfig('', 'x'), dnsListen: { place, isAlways: false } };
  const service = new NameService({ ...engine.context, config: () => config }, { addresses });
  services.push(service);
  run('user-1');
  await service.look();
  expect(service.place).toBeUndefined();
  const { id } = run('web');
  // The event alone does it.
  await expect.poll(() => service.place).toBe(`127.0.0.1:${port}`);
  expect(await resolve(service, 'web.vm')).toEqual(['10.77.0.2']);
  moveVm(engine.context.db, id, 'stopping');
  await expect.poll(() => service.place).toBeUndefined();
});

test('a port that is taken is told once, and tried again at the next change', async () => {
  const taken = createSocket('udp4');
  await new Promise<void>((done) => taken.bind(0, '127.0.0.1', done));
  const service = open(`[dns]\nlisten = "127.0.0.1:${taken.address().port}"`);
  await service.look();
  await service.look();
  expect(service.place).toBeUndefined();
  expect(service.problem).toBe('its port is taken by another program');
  expect(engine.log.filter((line) => line.includes('not answered for'))).toHaveLength(1);
  await new Promise<void>((done) => taken.close(done));
  await service.look();
  expect(service.place).toBeDefined();
  expect(service.problem).toBeUndefined();
});

test('a port that another engine had is taken over when that has left; the configuration comes before it', async () => {
  const other = createSocket('udp4');
  await new Promise<void>((done) => other.bind(0, '127.0.0.1', done));
  const { port } = other.address();
  run('web');
  const options = { autoPort: () => port, retryMs: 20 };
  const service = open('', options);
  await service.look();
  expect(service.problem).toBe('its port is taken by another program');
  await new Promise<void>((done) => other.close(done));
  await expect.poll(() => service.place).toBe(`127.0.0.1:${port}`);
  const told = open('[dns]\nlisten = "127.0.0.1:0"', options);
  await told.look();
  expect(told.place).not.toBe(`127.0.0.1:${port}`);
});

test.each([
  '0.0.0.0:53',
  '10.0.0.1:53',
  'localhost:53',
  '127.0.0.1',
  '127.0.0.999:53',
  '127.0.0.1:70000',
  'on',
])('dns.listen = "%s" is refused: nothing listens beyond the loopback', (text) => {
  expect(() => parseConfig(`[dns]\nlisten = "${text}"`, 'config.toml')).toThrow('dns.listen');
});

test('off is off, and ::1 is a loopback, too', () => {
  expect(parseConfig('[dns]\nlisten = "off"', 'x').dnsListen).toEqual({ isAlways: false });
  expect(parseConfig('[dns]\nlisten = "[::1]:53"', 'x').dnsListen).toEqual({
    place: { address: '::1', port: 53 },
    isAlways: true,
  });
});

async function freePort(): Promise<number> {
  const socket = createSocket('udp4');
  await new Promise<void>((done) => socket.bind(0, '127.0.0.1', done));
  const { port } = socket.address();
  await new Promise<void>((done) => socket.close(done));
  return port;
}
