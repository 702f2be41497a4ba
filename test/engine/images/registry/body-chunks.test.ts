import { once } from 'node:events';
import { Readable } from 'node:stream';
import { setImmediate } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { bodyChunks } from '../../../../src/engine/images/registry/body-chunks.ts';

/** A stream to push into, as a socket does. */
function openStream(): Readable {
  return new Readable({ read: () => undefined });
}

const pieces = ['one', 'two', 'three'].map((text) => Buffer.from(text));

test('chunks that wait for their reader stay as they came', async () => {
  const stream = openStream();
  for (const piece of pieces) stream.push(piece);
  stream.push(null);
  const came: Buffer[] = [];
  for await (const chunk of bodyChunks(stream)) {
    await setImmediate();
    came.push(chunk);
  }
  expect(came).toHaveLength(3);
  // The same memory, not only the same bytes.
  came.forEach((chunk, index) => expect(chunk).toBe(pieces[index]));
});

test('the next chunk is waited for', async () => {
  const stream = openStream();
  const chunks = bodyChunks(stream);
  for (const piece of pieces) {
    const next = chunks.next();
    await setImmediate();
    stream.push(piece);
    expect(await next).toEqual({ done: false, value: piece });
  }
  const last = chunks.next();
  stream.push(null);
  expect(await last).toEqual({ done: true, value: undefined });
});

test('a reader that is behind makes the stream wait', async () => {
  let sent = 0;
  const stream = new Readable({
    highWaterMark: 64 * 1024,
    read() {
      this.push(Buffer.alloc(16 * 1024));
      sent++;
    },
  });
  const chunks = bodyChunks(stream);
  await chunks.next();
  await setImmediate();
  await setImmediate();
  expect(sent).toBeLessThan(10);
  await chunks.return(undefined);
  expect(stream.destroyed).toBe(true);
});

test('what breaks a stream reaches its reader, after what came before', async () => {
  const stream = openStream();
  const chunks = bodyChunks(stream);
  const first = chunks.next();
  stream.push(pieces[0]);
  expect((await first).value).toBe(pieces[0]);
  const next = chunks.next();
  stream.destroy(new Error('the line is cut'));
  await expect(next).rejects.toThrow('the line is cut');
});

test('a stream that ends early, or broke before it was read, is an error', async () => {
  const cut = openStream();
  const next = bodyChunks(cut).next();
  cut.destroy();
  await expect(next).rejects.toThrow('Premature close');

  const broken = openStream();
  const broke = once(broken, 'error');
  broken.destroy(new Error('too late'));
  await broke;
  await expect(bodyChunks(broken).next()).rejects.toThrow('too late');
});

test('an error that comes when nobody reads any more is nobody’s', async () => {
  const stream = new Readable({
    read: () => undefined,
    destroy: (_, done) => void setImmediate().then(() => done(new Error('aborted'))),
  });
  stream.push(pieces[0]);
  for await (const chunk of bodyChunks(stream)) {
    expect(chunk).toBe(pieces[0]);
    break;
  }
  // An error without a listener would end the process here.
  await setImmediate();
  await setImmediate();
  expect(stream.errored).toMatchObject({ message: 'aborted' });
});
