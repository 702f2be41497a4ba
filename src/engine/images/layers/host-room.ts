import { statfs } from 'node:fs/promises';
import { BangerError } from '../../../errors.ts';

const mib = 2 ** 20;
/** Left free for whoever else writes there, VMs above all; of little, an eighth of what was free at first */
const reserveBytes = 256 * mib;
/** How much further an image may grow at most before the host is asked again: others write there, too */
const stepBytes = 256 * mib;

/** Room on the host for a file that grows, asked for before it is needed. */
export class HostRoom {
  readonly #directory: string;
  #keptBytes: number | undefined;
  /** How long the file was when the host was last asked */
  #lastBytes = 0;
  /** Up to where there was room then */
  #sureBytes = 0;

  constructor(directory: string) {
    this.#directory = directory;
  }

  /** Throws when the file cannot become so long. Undefined where that is known to be possible, which it mostly is. */
  reach(bytes: number): Promise<void> | undefined {
    return bytes <= this.#sureBytes ? undefined : this.#ask(bytes);
  }

  /** Throws when there is no room for so many bytes more than now. It is not taken: others write there, too. */
  async foresee(moreBytes: number): Promise<void> {
    await this.#roomFor(moreBytes);
  }

  async #ask(bytes: number): Promise<void> {
    const wantedBytes = bytes - this.#lastBytes;
    const roomBytes = await this.#roomFor(wantedBytes);
    this.#lastBytes = bytes;
    this.#sureBytes = bytes + Math.min(stepBytes, (roomBytes - wantedBytes) / 2);
  }

  /** What may be written without touching the reserve; throws when it is less than what is wanted. */
  async #roomFor(wantedBytes: number): Promise<number> {
    const { bavail, bsize } = await statfs(this.#directory);
    const freeBytes = bavail * bsize;
    const keptBytes = (this.#keptBytes ??= Math.min(reserveBytes, freeBytes / 8));
    const roomBytes = freeBytes - keptBytes;
    if (wantedBytes <= roomBytes) return roomBytes;
    const [wanted, free, kept] = [wantedBytes, freeBytes, keptBytes].map((each) => Math.ceil(each / mib));
    const reserve = wantedBytes <= freeBytes ? `, ${kept} MiB of which are kept for VMs` : '';
    throw new BangerError(
      'host_unsupported',
      `There is no room for the image: it takes ${wanted} MiB or more, and ${free} MiB are free at "${this.#directory}"${reserve}`,
      { hint: 'Free space there, for example with: banger image prune --all' },
    );
  }
}
