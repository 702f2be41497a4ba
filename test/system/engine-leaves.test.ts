import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { collect, openBanger, until } from '../support/banger.ts';

const banger = openBanger();
afterAll(() => banger[Symbol.asyncDispose]());

test('commands that meet an engine on its way out are served by the next, once', async () => {
  // It leaves whenever there is a moment without a client.
  banger.configure('[engine]\nidle_timeout = "1ms"\n');
  const worker = async (name: string): Promise<void> => {
    for (const round of [1, 2, 3, 4]) {
      await banger.ok(['vm', 'create', '--no-start', '--name', `${name}${round}`]);
      await banger.ok(['vm', 'list']);
    }
  };
  await Promise.all(['a', 'b', 'c', 'd'].map(worker));
  const names = ['a', 'b', 'c', 'd'].flatMap((name) => [1, 2, 3, 4].map((round) => `${name}${round}`));
  expect((await banger.ok(['ps', '-q'])).split('\n').toSorted()).toEqual(names);
  const starts = execFileSync('grep', ['-c', 'engine starts', join(banger.home, 'state/engine.log')]);
  expect(Number(starts.toString())).toBeGreaterThan(1);
}, 180_000);

test('whoever watches hears that the engine ended', async () => {
  banger.configure('');
  const child = banger.start(['events', '--filter', 'type=vm']);
  const collected = collect(child);
  let output = '';
  child.stdout!.on('data', (chunk: Buffer) => (output += chunk.toString()));
  // Nobody says when the listener is connected: things happen until it has heard of one.
  await until('the listener hears of something', async () => {
    await banger.run(['vm', 'delete', 'heard']);
    await banger.ok(['vm', 'create', '--no-start', '--name', 'heard']);
    return output.includes('heard');
  });
  await banger.ok(['engine', 'stop']);
  const { code, stderr } = await collected;
  expect({ code, stderr }).toEqual({
    code: 1,
    stderr: expect.stringContaining('The engine ended') as string,
  });
});
