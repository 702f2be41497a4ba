import { PassThrough, Readable } from 'node:stream';
import { posix } from 'node:path';
import { uncompressed } from '../../engine/images/layers/layer-stream.ts';
import { copyOutSummary, vmCopyIn, vmCopyOut, vmPath } from '../../engine/rpc/vm-copy-methods.ts';
import type { ParamsOf } from '../../engine/rpc/method.ts';
import { BangerError } from '../../errors.ts';
import type { Cli } from '../cli.ts';
import { printable } from '../../printable.ts';
import { UsageError } from '../usage-error.ts';
import type { CopyPlace } from './copy-place.ts';
import { GuardedTree } from './guarded-tree.ts';
import { localDestination, localSource } from './local-end.ts';
import { localTar, type CopyCount } from '../../engine/copy/local-tar.ts';
import { planCopy, type CopyEnd, type CopyPlan } from './plan-copy.ts';
import { retellTar } from './retell-tar.ts';
import { saveTar } from './save-tar.ts';
import { tarEntries } from './tar-entries.ts';

type GuestPlace = Extract<CopyPlace, { kind: 'guest' }>;
type HostPlace = Exclude<CopyPlace, { kind: 'guest' }>;

export interface CopyOptions {
  /** A symlink that is the source itself is followed */
  readonly follow: boolean;
  /** Owners are kept */
  readonly archive: boolean;
}

/** Copies from a guest to this host. */
export async function copyFromGuest(
  cli: Cli,
  ends: { readonly source: GuestPlace; readonly destination: HostPlace },
  options: CopyOptions,
): Promise<CopyCount> {
  const { source: place, destination } = ends;
  const count = newCount();
  const follow = options.follow || place.ending !== 'plain';
  const looked = await cli.call(vmPath, { vm: place.vm, path: place.path, follow });
  const source: CopyEnd = { ...place, kind: looked.kind };
  // Whether there is anything to copy comes first, and with a tar there is no more to decide.
  const plan = planCopy(source, destination.kind === 'local' ? localDestination(destination) : anyDirectory);
  const { kind } = source;
  if (kind === 'missing' || kind === 'no-parent')
    throw new BangerError('internal', 'A missing source was planned');
  const request = { vm: place.vm, path: place.path, kind, follow, totalBytes: looked.sizeBytes || undefined };
  const receive = (take: (chunks: AsyncIterable<Buffer>) => Promise<void>, onAbandoned?: () => void) =>
    received(cli, { request, take, onAbandoned });
  let exit: object;
  if (destination.kind === 'stream') {
    if (cli.printsToTerminal)
      throw new UsageError('A terminal cannot show a tar', 'Redirect it: banger vm cp VM:PATH - > FILE.tar');
    const rootName =
      kind === 'directory' && plan.to === 'entry' ? bytes(posix.basename(place.path)) : undefined;
    const sender = { name: `VM "${place.vm}"`, absolutePaths: 'refused' } as const;
    exit = await receive((chunks) =>
      retellTar(tarEntries(chunks, sender), { format: 'pax', rootName, keepOwners: true, count }, (chunk) =>
        cli.write(chunk),
      ),
    );
  } else {
    if (kind === 'other') throw notCopied(place.typed);
    using tree = new GuardedTree(plan.directory);
    const name = plan.to === 'entry' ? plan.name : undefined;
    const keepOwners = options.archive && process.getuid!() === 0;
    if (options.archive && !keepOwners)
      count.notes.add('Only root can give files to others: all of them are yours');
    const input = { vm: place.vm, kind, name, keepOwners, count };
    exit = await receive(
      (chunks) => saveTar(chunks, tree, input),
      () => tree.abandon(),
    );
  }
  for (const warning of copyOutSummary.parse(exit).warnings) count.notes.add(printable(warning));
  return count;
}

/** Copies from this host to a guest. */
export async function copyToGuest(
  cli: Cli,
  ends: { readonly source: HostPlace; readonly destination: GuestPlace },
  options: CopyOptions,
): Promise<CopyCount> {
  const { source: place, destination: target } = ends;
  const count = newCount();
  const { vm } = target;
  const { kind } = await cli.call(vmPath, { vm, path: target.path, follow: true });
  const destination: CopyEnd = { ...target, kind };
  if (place.kind === 'stream') {
    const input = tarOfStandardInput(cli, { destination, count, archive: options.archive });
    await cli.transfer(vmCopyIn, { vm, path: target.path, as: 'directory', follow: true }, { input });
    return count;
  }
  const source = localSource(place, options.follow);
  const plan = planCopy(source, destination);
  const follow = options.follow || place.ending !== 'plain';
  const asFile = source.kind !== 'directory';
  const tar = (name: string | undefined): Readable =>
    Readable.from(localTar({ path: source.path, name, follow, keepOwners: options.archive, count }), {
      objectMode: false,
    });
  const exit = await cli.transfer(
    vmCopyIn,
    asFile
      ? { vm, path: entryPath(plan), as: 'file', follow: plan.to === 'entry' && plan.isNamed }
      : { vm, path: plan.directory, as: 'directory', follow: true },
    { input: tar(asFile ? 'file' : plan.to === 'entry' ? plan.name : undefined) },
  );
  for (const warning of copyOutSummary.parse(exit).warnings) count.notes.add(printable(warning));
  return count;
}

function notCopied(typed: string): BangerError {
  return new BangerError('invalid_argument', `"${typed}" is a device, a pipe or a socket`, {
    hint: 'Nothing of that kind is made on this host. Get its entry in a tar with - as the destination',
  });
}

/** What a tar on standard output counts as. */
const anyDirectory: CopyEnd = { typed: '-', path: '/', ending: 'plain', kind: 'directory' };

function newCount(): CopyCount {
  return { files: 0, bytes: 0, notes: new Set() };
}

function bytes(text: string): string {
  return Buffer.from(text).toString('latin1');
}

function entryPath(plan: CopyPlan): string {
  return plan.to === 'entry' ? posix.join(plan.directory, plan.name) : plan.directory;
}

/** Lets `take` read what the guest sends, as fast as it does. What goes wrong there ends the transfer. */
async function received(
  cli: Cli,
  what: {
    readonly request: ParamsOf<typeof vmCopyOut>;
    readonly take: (chunks: AsyncIterable<Buffer>) => Promise<void>;
    readonly onAbandoned?: () => void;
  },
): Promise<object> {
  const pipe = new PassThrough({ highWaterMark: 1024 * 1024 });
  pipe.on('error', () => undefined);
  const taken = what.take(pipe);
  const failed = taken.then(
    () => new Promise<never>(() => undefined),
    (error: unknown) => Promise.reject(error instanceof Error ? error : new Error(String(error))),
  );
  failed.catch(() => undefined);
  try {
    const exit = await cli.transfer(vmCopyOut, what.request, {
      output: async (chunk) => {
        if (pipe.write(chunk)) return;
        await Promise.race([new Promise((resolve) => pipe.once('drain', resolve)), failed]);
      },
      onAbandoned: what.onAbandoned,
    });
    pipe.end();
    await taken;
    return exit;
  } catch (error) {
    pipe.destroy(error instanceof Error ? error : undefined);
    // The guest's part failing may be because ours did: the first of them is the reason.
    await taken;
    throw error;
  }
}

/** A tar from standard input, plain or compressed, for a directory of the guest. */
function tarOfStandardInput(
  cli: Cli,
  what: { readonly destination: CopyEnd; readonly count: CopyCount; readonly archive: boolean },
): Readable {
  const { destination, count, archive } = what;
  if (destination.kind !== 'directory')
    throw new BangerError(
      'invalid_argument',
      `"${destination.typed}" is not a directory: a tar goes into one that exists`,
      { hint: 'Make it first, or give its parent' },
    );
  const { stream, isTerminal } = cli.standardInput();
  if (isTerminal)
    throw new UsageError('Standard input is a terminal', 'Redirect it: banger vm cp - VM:DIR < FILE.tar');
  const pipe = new PassThrough({ highWaterMark: 1024 * 1024 });
  // Whoever reads it hears of it; it may fail before anybody does.
  pipe.on('error', () => undefined);
  const sender = { name: 'standard input', absolutePaths: 'below the root' } as const;
  const entries = tarEntries(uncompressed(stream as AsyncIterable<Buffer>), sender);
  const write = async (chunk: Buffer): Promise<void> => {
    if (!pipe.write(chunk))
      await new Promise((resolve) => pipe.once('drain', resolve).once('close', resolve));
  };
  void retellTar(entries, { format: 'gnu', rootName: undefined, keepOwners: archive, count }, write).then(
    () => pipe.end(),
    (error: unknown) => pipe.destroy(error instanceof Error ? error : new Error(String(error))),
  );
  return pipe;
}
