import { expect, test } from 'vitest';
import type { Cli } from '../../src/commands/cli.ts';
import { findNeededPorts } from '../../src/commands/needed-ports.ts';
import { parsePortText } from '../../src/engine/rpc/port-text.ts';

const port = (hostPort: number, protocol = 'tcp') => ({
  protocol,
  bind: '127.0.0.1',
  hostPort,
  guestPort: 80,
});
const answering = (answers: Readonly<Record<string, unknown>>): Pick<Cli, 'callIfRunning'> => ({
  callIfRunning: (async ({ name }: { name: string }) => answers[name]) as unknown as Cli['callIfRunning'],
});
const vms = [
  {
    name: 'web',
    state: 'stopped',
    ports: [
      port(8080),
      { ...port(53, 'udp'), bind: '0.0.0.0' },
      // These were ours to choose, and will be again.
      { ...port(40_000), chosen: true },
      { ...port(40_001), followed: true },
    ],
  },
  { name: 'db', state: 'running', ports: [port(5432)] },
];
const input = { configFile: '/nonexistent/config.toml', autoPort: 10_053 };

test('ports of stopped VMs are needed, and that of the name server while it does not have it', async () => {
  const asked = await findNeededPorts(answering({ 'engine.status': {}, 'vm.list': vms }), input);
  expect(
    asked!.map(({ bind, port: one, protocol, wayOut }) => [`${bind}:${one}/${protocol}`, wayOut]),
  ).toEqual([
    ['127.0.0.1:8080/tcp', 'Publish on another: banger vm set web --unpublish 8080 -p 80'],
    ['0.0.0.0:53/udp', 'Publish on another: banger vm set web --unpublish 53/udp -p 0.0.0.0::80/udp'],
    [
      '127.0.0.1:10053/udp',
      'Have another used, in the configuration under [dns]: listen = "127.0.0.1:10054"',
    ],
  ]);
  const named = { 'engine.status': { names: '127.0.0.1:10053' }, 'vm.list': [] };
  expect(await findNeededPorts(answering(named), input)).toEqual([]);
});

test('the way out is understood', () => {
  expect(parsePortText('0.0.0.0::80/udp')).toEqual({ protocol: 'udp', bind: '0.0.0.0', guestPort: 80 });
});

test('without an engine nobody knows, and none is started for it', async () => {
  expect(await findNeededPorts(answering({}), input)).toBeUndefined();
});
