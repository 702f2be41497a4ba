import { chownSync, lstatSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { openCopyFixture, type CopyFixture } from './copy-fixture.ts';

let fixture: CopyFixture;
beforeEach(async () => {
  fixture = await openCopyFixture();
});
afterEach(() => fixture[Symbol.asyncDispose]());

const ends = ['to the guest', 'from the guest'];
const isRoot = process.getuid!() === 0;

describe.each(ends)('%s', (direction) => {
  const isTo = direction === ends[0];
  const from = (): string => (isTo ? fixture.here : fixture.there);
  const to = (): string => (isTo ? fixture.there : fixture.here);
  const cp = (...options: string[]) =>
    fixture.cp([...options, isTo ? 'src' : 'web:src', isTo ? 'web:new' : 'new']);

  beforeEach(() => {
    mkdirSync(join(from(), 'src'));
    writeFileSync(join(from(), 'src/file'), 'text\n');
  });

  // Only root can give files to others.
  test.runIf(isRoot)('-a keeps users and groups, and without it they are those of who copies', async () => {
    chownSync(join(from(), 'src/file'), 1234, 5678);
    chownSync(join(from(), 'src'), 4321, 8765);
    const owners = (): number[][] =>
      ['new', 'new/file'].map((name) => {
        const { uid, gid } = lstatSync(join(to(), name));
        return [uid, gid];
      });
    await cp('-a');
    const kept = [
      [4321, 8765],
      [1234, 5678],
    ];
    expect(owners()).toEqual(kept);
    for (const name of ['new', 'new/file']) chownSync(join(to(), name), 0, 0);
    mkdirSync(join(to(), 'fresh'));
    const plain = [isTo ? 'src' : 'web:src', isTo ? 'web:fresh' : 'fresh'];
    await fixture.cp(plain);
    const { uid, gid } = lstatSync(join(to(), 'fresh/src/file'));
    expect([uid, gid]).toEqual([0, 0]);
  });

  test('-q says nothing, without it what was copied', async () => {
    expect((await cp()).talk).toMatch(/^Copied 1 file, 5 B, to (web:.*\/)?new$/);
    expect(await cp('-q')).toEqual({ stdout: Buffer.alloc(0), talk: '' });
    expect(lstatSync(join(to(), 'new/src/file')).size).toBe(5);
  });
});
