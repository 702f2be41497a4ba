import { Readable } from 'node:stream';
import { BangerError } from '../../errors.ts';
import type { Guest } from '../guest.ts';
import { failpoint } from '../failpoints.ts';
import type { Operation } from '../operations.ts';
import { lastLine } from './guest-git.ts';
import type { Shipment } from './shipment.ts';
import { tarStream, type TarEntry } from './tar-stream.ts';

export interface GuestPlace {
  readonly guest: Guest;
  readonly guestPath: string;
  readonly vmName: string;
}

/**
 * Finishes or takes back what an interrupted `prepare` left, then says what is at the path. The toolbox's shell
 * runs it, and the programs in it are the toolbox's, whatever the image has.
 */
const lookScript = `
path=$1
if [ ! -e "$path" ] && [ -e "$path.banger-old" ]; then mv "$path.banger-old" "$path" || exit; fi
if [ ! -e "$path" ] && [ ! -L "$path" ]; then echo missing
elif [ -d "$path" ] && [ -z "$(ls -A "$path")" ]; then echo empty
else echo present
fi
`;

const unpackScript = `
rm -rf "$1.banger-new" && mkdir -p "$1.banger-new" && exec tar -x -f - -C "$1.banger-new"
`;

/** Between the two moves there is no tree at the path; `lookScript` ends that state if this is interrupted in it. */
const swapScript = `
path=$1
rm -rf "$path.banger-old" || exit
if [ -e "$path" ] || [ -L "$path" ]; then mv "$path" "$path.banger-old" || exit; fi
if ! mv "$path.banger-new" "$path"; then
  [ ! -e "$path.banger-old" ] || mv "$path.banger-old" "$path"
  exit 1
fi
rm -rf "$path.banger-old"
`;

/** Tells whether something is where a workspace is to go. An empty directory counts as nothing. */
export async function isOccupied(place: GuestPlace, signal: AbortSignal): Promise<boolean> {
  const looked = await runScript(place, lookScript, { signal });
  return looked.toString('latin1').trim() === 'present';
}

/**
 * Puts a shipment in the guest's place, all of it or nothing: it is unpacked beside the place and moved there.
 * Throws `FileChangedError` when a file changed meanwhile.
 */
export async function sendTree(place: GuestPlace, shipment: Shipment, operation: Operation): Promise<void> {
  try {
    await unpack(place, shipment, operation);
    await failpoint('tree unpacked');
    await runScript(place, swapScript, { signal: operation.signal });
  } catch (error) {
    await discard(place);
    throw error;
  }
}

async function unpack(place: GuestPlace, shipment: Shipment, operation: Operation): Promise<void> {
  // A stream that fails must end the guest's tar too, which would wait for the rest of its input.
  const stop = new AbortController();
  let failure: { readonly error: unknown } | undefined;
  const stream = async function* (): AsyncGenerator<Buffer> {
    try {
      yield* tarStream(counted(shipment, operation));
    } catch (error) {
      failure = { error };
      stop.abort();
      throw error;
    }
  };
  try {
    await runScript(place, unpackScript, {
      signal: AbortSignal.any([operation.signal, stop.signal]),
      input: Readable.from(stream(), { objectMode: false, highWaterMark: 1024 * 1024 }),
    });
  } catch (error) {
    throw failure ? failure.error : error;
  }
  if (failure) throw failure.error;
}

/** The shipment's entries, telling the operation how many bytes are behind the one being sent. */
function* counted(shipment: Shipment, operation: Operation): Generator<TarEntry> {
  let done = 0;
  for (const entry of shipment.entries) {
    operation.progress({ done, total: shipment.totalBytes, unit: 'bytes' });
    yield entry;
    if (entry.content.kind === 'file') done += entry.content.sizeBytes;
    if (entry.content.kind === 'bytes') done += entry.content.bytes.length;
  }
  operation.progress({ done, total: shipment.totalBytes, unit: 'bytes' });
}

async function discard({ guest, guestPath }: GuestPlace): Promise<void> {
  // The operation's own signal may be what ended it. What stays is removed by the next `prepare`.
  await guest
    .runToolbox(['rm', '-rf', `${guestPath}.banger-new`], { signal: AbortSignal.timeout(10_000) })
    .catch(() => undefined);
}

async function runScript(
  { guest, guestPath, vmName }: GuestPlace,
  script: string,
  options: { readonly signal: AbortSignal; readonly input?: Readable },
): Promise<Buffer> {
  const output = await guest.runToolbox(['sh', '-c', script, 'banger', guestPath], options);
  if (output.exit.code === 0) return output.stdout;
  throw new BangerError('command_failed', `VM "${vmName}" cannot hold "${guestPath}"${lastLine(output)}`, {
    hint: `See how much room there is with: banger vm exec ${vmName} -- df -h`,
  });
}
