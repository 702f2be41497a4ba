import { chmodSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { GuestClocks } from '../../../src/engine/lifecycle/guest-clocks.ts';
import { addVm } from '../../support/add-vm.ts';
import { fakeEngine, testImageId, type FakeEngine } from '../../support/fake-engine.ts';
import { createFakeGuest } from '../../support/fake-guest.ts';

let engine: FakeEngine;
let root: string;
let hostTime = 1_800_000_000_000;
let monotonic = 5_000;

beforeEach(() => {
  engine = fakeEngine();
  root = mkdtempSync(join(tmpdir(), 'banger-clock-'));
  mkdirSync(join(root, 'bin'));
  // It is the host's programs that run here: this one sets no clock.
  writeFileSync(
    join(root, 'bin/date'),
    `#!/bin/sh\ncase $1 in +%s) cat '${root}/time' ;; *) echo "$*" >>'${root}/set' ;; esac\n`,
  );
  chmodSync(join(root, 'bin/date'), 0o755);
  [hostTime, monotonic] = [1_800_000_000_000, 5_000];
  guestSays(1_800_000_000);
});
afterEach(async () => {
  await engine.close();
  rmSync(root, { recursive: true });
});

const guestSays = (seconds: number): void => writeFileSync(join(root, 'time'), `${seconds}\n`);
const wasSet = (): string[] =>
  existsSync(join(root, 'set')) ? readFileSync(join(root, 'set'), 'utf8').trim().split('\n') : [];

function open(): { clocks: GuestClocks; commands: readonly unknown[] } {
  const { guest, commands } = createFakeGuest({ env: { PATH: `${join(root, 'bin')}:/usr/bin:/bin` } });
  const context = { ...engine.context, guest: async () => guest };
  const clocks = new GuestClocks(context, { time: () => hostTime, monotonic: () => monotonic });
  return { clocks, commands };
}

function running(name: string): void {
  const { id } = addVm(engine.context, name, testImageId);
  engine.context.db.prepare("UPDATE vms SET state = 'running' WHERE id = ?").run(id);
}

/** Both clocks go on, as they do. */
function pass(seconds: number): void {
  hostTime += seconds * 1000;
  monotonic += seconds * 1000;
}

test('while the host’s clocks go alike no guest is asked, and after some hours each once', async () => {
  running('web');
  const { clocks, commands } = open();
  for (let minutes = 0; minutes < 359; minutes++) {
    pass(60);
    await clocks.look();
  }
  expect(commands).toEqual([]);
  pass(120);
  guestSays(hostTime / 1000 - 1);
  await clocks.look();
  await clocks.look();
  expect(commands).toHaveLength(1);
  // A second is not worth it.
  expect(wasSet()).toEqual([]);
});

test.each([
  ['the host was suspended', 3_600],
  ['somebody set its clock back', -90],
])('when %s, running guests get its time', async (_, seconds) => {
  running('web');
  addVm(engine.context, 'stopped', testImageId);
  const { clocks, commands } = open();
  pass(60);
  hostTime += seconds * 1000;
  guestSays(1_800_000_060);
  await clocks.look();
  expect(commands).toHaveLength(1);
  expect(wasSet()).toEqual([`-u -s @${1_800_000_060 + seconds}`]);
  pass(60);
  await clocks.look();
  expect(commands).toHaveLength(1);
});

test('a guest whose clock cannot be set is in the log, and keeps it', async () => {
  running('web');
  const { clocks } = open();
  rmSync(join(root, 'time'));
  hostTime += 60_000;
  await clocks.look();
  expect(engine.log.join()).toContain("the guest's clock could not be set");
});
