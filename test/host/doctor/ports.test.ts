import { createServer, type AddressInfo } from 'node:net';
import { expect, test } from 'vitest';
import { checkNeededPorts } from '../../../src/host/doctor/ports.ts';
import { findFreePort } from '../../../src/host/ports.ts';

test('a port that somebody else has is told, with what it is for and how to do without it', async () => {
  const somebody = createServer();
  await new Promise<void>((resolve) => somebody.listen(0, '127.0.0.1', resolve));
  const { port } = somebody.address() as AddressInfo;
  const needed = (one: number) => ({
    protocol: 'tcp' as const,
    bind: '127.0.0.1',
    port: one,
    purpose: 'VM "web"',
    wayOut: 'Publish on another',
  });
  expect(await checkNeededPorts([needed(await findFreePort()), needed(port)])).toMatchObject({
    status: 'warn',
    evidence: `cannot be had now: 127.0.0.1:${port}/tcp (VM "web")`,
    fix: 'Publish on another',
  });
  await new Promise((resolve) => somebody.close(resolve));
  expect(await checkNeededPorts([needed(port)])).toMatchObject({ status: 'pass' });
  expect(await checkNeededPorts(undefined)).toMatchObject({ status: 'skip' });
});
