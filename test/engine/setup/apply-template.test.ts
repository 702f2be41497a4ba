import { expect, test } from 'vitest';
import { withTemplate } from '../../../src/engine/setup/apply-template.ts';
import { movedPortNotes, planPorts } from '../../../src/engine/lifecycle/published-ports.ts';
import type { Template } from '../../../src/state/templates.ts';
import { createServer } from 'node:net';

const port = { protocol: 'tcp', bind: '127.0.0.1', guestPort: 80 } as const;
const template: Template = {
  file: 'banger.toml',
  sha256: 'a'.repeat(64),
  image: 'node',
  cpus: 4,
  memoryMib: 1024,
  ports: [
    { ...port, hostPort: 8080 },
    { ...port, guestPort: 3000 },
  ],
  env: {},
  setup: [],
  bootstrap: true,
};
const recorded = { hostPath: '/src/app', template };
const onUser = { network: 'user', note: undefined };

test('flags beat the file, word by word, and a published guest port is not published twice', () => {
  expect(
    withTemplate({ image: 'alpine', publish: [{ ...port, hostPort: 9090 }] }, recorded, onUser),
  ).toMatchObject({
    image: 'alpine',
    cpus: 4,
    memoryMib: 1024,
    diskBytes: undefined,
    publish: [
      { ...port, hostPort: 9090 },
      { ...port, guestPort: 3000 },
    ],
    recordedTemplate: recorded,
  });
  expect(withTemplate({ image: 'alpine' }, undefined, onUser)).toEqual({ image: 'alpine' });
});

test('ports that a VM without a network cannot have are told and left out', () => {
  const notes: string[] = [];
  const cutOff = { network: 'none', note: (sentence: string) => void notes.push(sentence) };
  expect(withTemplate({}, recorded, cutOff)).toMatchObject({ image: 'node', publish: [] });
  expect(notes).toEqual([
    'Warning: "banger.toml" asks for ports, and they are left out: the VM has no network (--network none)',
  ]);
  withTemplate({}, { hostPath: '/src/app', template: { ...template, ports: [] } }, cutOff);
  expect(notes).toHaveLength(1);
});

test('a port of the host that is only preferred gives way to whoever has it', async () => {
  const server = createServer().listen(0, '127.0.0.1');
  await new Promise((resolve) => server.once('listening', resolve));
  const { port: taken } = server.address() as { port: number };
  const wish = { ...port, hostPort: taken, prefersHostPort: true };
  const [given] = await planPorts([wish]);
  expect(given).toMatchObject({ guestPort: 80, chosen: true });
  expect(given?.hostPort).not.toBe(taken);
  // Somebody would look for the VM there, and find another program.
  expect(movedPortNotes([given!])).toEqual([
    `Port ${taken} is taken here: port 80 of the VM is at 127.0.0.1:${given?.hostPort}`,
  ]);
  await expect(planPorts([{ ...port, hostPort: taken }])).rejects.toMatchObject({ code: 'busy' });
  await new Promise((resolve) => server.close(resolve));
  const asWished = await planPorts([wish]);
  expect(asWished).toEqual([{ ...port, hostPort: taken, chosen: true, wished: taken }]);
  expect(movedPortNotes(asWished)).toEqual([]);
  // One that belongs to a VM that does not run is taken too, and so is one given a moment ago.
  expect((await planPorts([wish], { isOwned: () => true }))[0]?.hostPort).not.toBe(taken);
  const [, second] = await planPorts([wish, { ...wish, guestPort: 81 }]);
  expect(second?.hostPort).not.toBe(taken);
});
