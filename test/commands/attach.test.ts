import { PassThrough } from 'node:stream';
import { createInterface } from 'node:readline/promises';
import { expect, test } from 'vitest';
import { attachStream, type LocalStreams } from '../../src/commands/attach.ts';
import type { ClientStream } from '../../src/engine/rpc/client.ts';

type Handler = Parameters<ClientStream['onFrame']>[0];

test('input reaches the program also when a question was answered before, and no more of it than there is credit', async () => {
  const stdin = new PassThrough();
  const lines = createInterface({ input: stdin });
  const answer = lines.question('Agree? ');
  stdin.write('y\n');
  expect(await answer).toBe('y');
  lines.close();

  const sent: string[] = [];
  let handle: Handler | undefined;
  const ended = Promise.withResolvers<object>();
  const stream: ClientStream = {
    send: (type, payload = '') => void sent.push(`${type} ${payload.toString()}`),
    onFrame: (handler) => (handle = handler),
    pause: () => undefined,
    resume: () => undefined,
    ended: ended.promise,
    close: () => undefined,
  };
  const out = new PassThrough();
  const attached = attachStream(
    stream,
    { stdin, stdout: out, stderr: out } as unknown as LocalStreams,
    false,
  );
  stdin.write('typed');
  await turn();
  expect(sent).toEqual([]);
  handle!({ type: 'credit', payload: Buffer.from('5') });
  await turn();
  expect(sent).toEqual(['stdin typed']);
  stdin.write('more');
  await turn();
  expect(sent).toEqual(['stdin typed']);
  handle!({ type: 'credit', payload: Buffer.from('100') });
  stdin.end();
  await turn();
  expect(sent).toEqual(['stdin typed', 'stdin more', 'stdin-end ']);
  ended.resolve({ code: 3 });
  expect(await attached.ended).toEqual({ code: 3 });
});

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(() => setImmediate(resolve)));
