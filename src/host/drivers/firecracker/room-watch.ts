import { stat, statfs } from 'node:fs/promises';
import { writesInPlace } from '../../copy-on-write.ts';

/** As fast as guests write, or faster: decides how long nobody has to look. */
const writtenPerSecond = 1024 ** 3;
const shortestMs = 50;
const longestMs = 10_000;
/** What the fastest writes between two looks that are as close as they get. No VM is started with less. */
const reserveBytes = 64 * 1024 ** 2;

export interface RoomWatch {
  /** Whether it was for want of room that the guest stands still */
  readonly isOut: boolean;
  /** The guest goes on, whatever room there is: it stands still again when half of that is gone */
  goOn(): void;
  stop(): void;
}

export interface RoomOptions {
  /** Has the guest stand still */
  readonly pause: () => Promise<void>;
  /** What is left on the filesystem of a disk */
  readonly freeBytes?: (disk: string) => Promise<number>;
}

/**
 * Has a guest stand still before the host has no room for what it writes: Firecracker would tell it that its disk is
 * broken, and its filesystem would not be written to any more. A disk without holes has its room already, where it is
 * written in place.
 */
export function watchRoom(disk: string, { pause, freeBytes = freeBytesOf }: RoomOptions): RoomWatch {
  let timer: NodeJS.Timeout | undefined;
  let isOver = false;
  let isOut = false;
  let leastBytes = reserveBytes;

  const look = async (): Promise<void> => {
    const free = await freeBytes(disk);
    if (free >= reserveBytes) leastBytes = reserveBytes;
    if (isOver || isOut) return;
    if (free < leastBytes && (await needsRoom(disk))) {
      isOut = true;
      return pause();
    }
    lookIn(Math.min(longestMs, Math.max(shortestMs, ((free - leastBytes) / writtenPerSecond) * 1000)));
  };
  const lookIn = (ms: number): void => {
    clearTimeout(timer);
    timer = setTimeout(() => void lookOn(), ms).unref();
  };
  const lookOn = async (): Promise<void> => {
    try {
      await look();
    } catch {
      // A VMM that does not answer now, or has ended, and its disk with it: nothing was changed, and it is asked again.
      isOut = false;
      if (!isOver) lookIn(longestMs);
    }
  };
  const begin = async (): Promise<void> => {
    const found = await stat(disk).catch(() => undefined);
    if (found?.isFile()) await lookOn();
  };
  void begin();
  return {
    get isOut() {
      return isOut;
    },
    goOn: () => {
      if (!isOut) return;
      isOut = false;
      leastBytes /= 2;
      lookIn(shortestMs);
    },
    stop: () => {
      isOver = true;
      clearTimeout(timer);
    },
  };
}

const blockBytes = 512;

/** Whether a write may need room: to a hole, or where blocks are shared, or copied at each write. */
async function needsRoom(disk: string): Promise<boolean> {
  const { size, blocks } = await stat(disk);
  return blocks * blockBytes < size || !(await writesInPlace(disk));
}

async function freeBytesOf(disk: string): Promise<number> {
  const { bavail, bsize } = await statfs(disk);
  return bavail * bsize;
}
