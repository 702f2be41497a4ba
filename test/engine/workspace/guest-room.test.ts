import { existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { expect, test, vi } from 'vitest';
import { openRepo, viewOf } from '../../support/git-repo.ts';
import { withSmallDisk, type SmallDisk } from '../../support/small-disk.ts';
import { createFixture, type Fixture } from './workspace-fixture.ts';

// Many runs of git each.
vi.setConfig({ testTimeout: 120_000 });

const mib = 1024 * 1024;

interface SmallGuest {
  readonly fixture: Fixture;
  readonly disk: SmallDisk;
  readonly guestPath: string;
  prepare(): ReturnType<Fixture['prepare']>;
  /** Takes all room that is left when a program of the guest has such a word */
  fillAt(word: string): void;
}

/** A guest whose trees are on a small disk. */
async function withSmallGuest(
  context: { skip(note: string): void },
  run: (guest: SmallGuest) => Promise<void>,
): Promise<void> {
  await withSmallDisk(context, '24m', async (disk) => {
    let full: string | undefined;
    const fixture = createFixture({
      onRun: (argv) => {
        if (full === undefined || !argv.some((word) => word.includes(full!))) return;
        full = undefined;
        disk.fill();
      },
    });
    const guestPath = join(disk.path, 'guest/project');
    fixture.repo.write('file', 'one\n');
    fixture.repo.commit('first');
    try {
      await run({
        ...{ fixture, disk, guestPath },
        prepare: () => fixture.prepare({ guestPath }),
        fillAt: (word) => void (full = word),
      });
    } finally {
      fixture.remove();
    }
  });
}

test('what has no room in the guest is told before anything is sent, with how much it needs', async (context) => {
  await withSmallGuest(context, async ({ fixture, guestPath, prepare }) => {
    const { repo, commands } = fixture;
    const copy = openRepo(guestPath);
    repo.write('large', Buffer.alloc(20 * mib));
    const refused = {
      code: 'invalid_state',
      message: expect.stringMatching(
        /guest\/project" needs \d+(?:\.\d)? MiB in VM "web", where \d+(?:\.\d)? MiB are free; nothing was sent$/,
      ) as string,
      hint: expect.stringContaining('or give it a larger disk: banger vm set web --disk 1G') as string,
    };
    repo.git('add', 'large');
    repo.write('large', Buffer.alloc(30 * mib, 'x'));
    await expect(prepare()).rejects.toMatchObject(refused);
    expect(existsSync(dirname(guestPath))).toBe(false);

    repo.git('reset', '-q', '--hard');
    await prepare();
    const before = viewOf(copy);
    repo.write('large', Buffer.alloc(12 * mib));
    repo.git('add', 'large');
    commands.length = 0;
    await expect(prepare()).rejects.toMatchObject(refused);
    expect(commands.some((argv) => argv.some((word) => word.includes('>.git/banger-next.part')))).toBe(false);
    expect(viewOf(copy)).toEqual(before);
  });
});

test('a disk that is full in the middle leaves the tree that was there, and the next prepare goes on', async (context) => {
  await withSmallGuest(context, async ({ fixture, disk, guestPath, prepare, fillAt }) => {
    const { repo } = fixture;
    const copy = openRepo(guestPath);
    fillAt('mkdir -p "$1.banger-new"');
    await expect(prepare()).rejects.toThrow(
      /cannot hold .*(?:No space left|full).*what was there is as it was/s,
    );
    expect(readdirSync(dirname(guestPath))).toEqual([]);
    disk.makeRoom();
    await prepare();
    const before = viewOf(copy);
    // While it arrives, and when it has arrived.
    for (const [word, content] of [
      ['banger-next.part', 'a'],
      ["trap '' HUP TERM INT PIPE\ncd", 'b'],
    ] as const) {
      repo.write('large', Buffer.alloc(2 * mib, content));
      repo.git('add', 'large');
      repo.write('file', `${content}\n`);
      fillAt(word);
      await expect(prepare(), word).rejects.toThrow(/(?:No space left|full).*what was there is as it was/s);
      // Git writes its index when it is asked.
      disk.makeRoom();
      expect(viewOf(copy), word).toEqual(before);
      expect(await fixture.export({ path: repo.path })).toMatchObject({ files: [] });
      expect(viewOf(copy), word).toEqual(before);
    }
    await prepare();
    expect(viewOf(copy)).toEqual(viewOf(repo));
  });
});

test('what interrupted sendings left there does not count as taken', async (context) => {
  await withSmallGuest(context, async ({ fixture, guestPath, prepare }) => {
    const { repo } = fixture;
    const left = `${guestPath}.banger-new`;
    mkdirSync(left, { recursive: true });
    writeFileSync(join(left, 'file'), Buffer.alloc(12 * mib, 1));
    repo.write('large', Buffer.alloc(9 * mib));
    repo.commit('large');
    await prepare();
    expect(existsSync(left)).toBe(false);
  });
});
