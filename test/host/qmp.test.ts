import { createServer, type Server } from 'node:net';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { QmpClient } from '../../src/host/qmp.ts';

let directory: string;
let server: Server | undefined;

beforeEach(() => (directory = mkdtempSync(join(tmpdir(), 'banger-qmp-'))));
afterEach(() => {
  server?.close();
  rmSync(directory, { recursive: true });
});

/** A QEMU that answers the greeting, and then every command with these words. */
async function qemuThatSays(words: string): Promise<string> {
  const path = join(directory, 'control');
  const listening = createServer((client) => {
    client.on('error', () => undefined);
    client.once('data', (line) => {
      client.write(
        `${JSON.stringify({ return: {}, id: (JSON.parse(String(line)) as { id: number }).id })}\n`,
      );
      client.on('data', () => client.write(words));
    });
  });
  server = listening;
  await new Promise<void>((done) => listening.listen(path, done));
  return path;
}

test.each([
  ['nothing', 'null\n'],
  ['a text', '"oops"\n'],
  ['what is not JSON', '{oops\n'],
  ['a line without end', 'x'.repeat(5 * 1024 * 1024)],
])('a VMM that answers with %s loses its connection, and nobody else does', async (_, words) => {
  const qmp = await QmpClient.connect(await qemuThatSays(words));
  await expect(qmp.execute('query-status')).rejects.toThrow('QEMU closed its control connection');
  await qmp.closed;
});

test('what QEMU says of somebody else’s command, and blank lines, are passed over', async () => {
  const qmp = await QmpClient.connect(
    await qemuThatSays('\r\n{"return": {}, "id": "x"}\n{"error": true, "id": 2}\n'),
  );
  await expect(qmp.execute('query-status')).rejects.toThrow('QEMU: unknown error');
  qmp.close();
});
