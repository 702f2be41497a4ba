import { expect, test } from 'vitest';
import type { Exec } from '../../../src/host/exec.ts';
import { removeLeftovers } from '../../../src/host/network/leftovers.ts';

/** A host with a tap for each tag, some of which VMs run on. */
function hostWith(tags: readonly string[], used: ReadonlySet<string>): Exec {
  const links = () =>
    tags.map((tag) => ({
      ifname: `bgt${tag}-1-2`,
      ifalias: `banger-${tag}`,
      flags: used.has(tag) ? ['UP', 'LOWER_UP'] : ['UP'],
    }));
  return (argv) =>
    Promise.resolve({
      exitCode: 0,
      stdout: Buffer.from(argv[0] === 'ip' ? JSON.stringify(links()) : ''),
      stderr: '',
    });
}

test('what comes to be used, or known, while others are removed stays', async () => {
  const used = new Set(['000d']);
  const known: { tag: string }[] = [];
  const exec = hostWith(['000a', '000b', '000c', '000d'], used);
  const asked: string[] = [];
  const removed = await removeLeftovers(
    exec,
    () => known,
    ({ tag }) => {
      asked.push(tag);
      used.add('000b');
      known.push({ tag: '000c' });
      return Promise.resolve();
    },
  );
  expect(asked).toEqual(['000a']);
  expect(removed.map(({ owner }) => owner.tag)).toEqual(['000a']);
});
