import { Readable } from 'node:stream';
import { abortError, BangerError } from '../../../errors.ts';
import type { Guest, GuestOutput } from '../../guest.ts';
import { failpoint } from '../../failpoints.ts';
import type { Operation } from '../../operations.ts';
import { complaint } from '../guest-tree/guest-git.ts';
import { insideScript } from '../guest-tree/inner-repositories.ts';
import { changedScript, exitIfChanged, throwIfChanged } from './changed-since.ts';
import { packedPieces, unpackInto } from '../../packed-pieces.ts';
import { makeBlobs } from './made-blobs.ts';
import type { Shipment } from './shipment.ts';
import { tarStream, type TarEntry } from './tar-stream.ts';
import { lookProgram } from '../guest-tree/quick-look.ts';
import { updateNames } from './update-names.ts';

export interface GuestPlace {
  readonly guest: Guest;
  readonly guestPath: string;
  readonly vmName: string;
}

/** In the repository of a tree that is replaced: what of it is to be in the new one, too, each ended by a zero byte. */
export const ignoredName = '.git/banger-ignored';

/**
 * Moves what was noted in the tree that was replaced to the new one, where that has nothing, and removes the old one.
 * A file in the way of a directory is there because somebody wanted the guest's to go. May be ended and run again.
 */
const carryScript = `
carry_over() {
  if [ -s "$path.banger-old/${ignoredName}" ]; then
    xargs -0 sh -c '
      carry() {
        if [ -d "$1" ] && [ ! -L "$1" ] && [ -d "$2" ] && [ ! -L "$2" ]; then
          for inner in "$1"/* "$1"/.[!.]* "$1"/..?*; do
            if [ -e "$inner" ] || [ -L "$inner" ]; then carry "$inner" "$2/\${inner##*/}"; fi
          done
        elif [ ! -e "$2" ] && [ ! -L "$2" ]; then
          parent=\${2%/*}
          while [ ! -e "$parent" ] && [ ! -L "$parent" ]; do parent=\${parent%/*}; done
          if [ -d "$parent" ] && [ ! -L "$parent" ]; then mkdir -p "\${2%/*}" && mv "$1" "$2" || exit; fi
        fi
      }
      for each; do
        from=$0.banger-old/\${each%/}
        if [ -e "$from" ] || [ -L "$from" ]; then carry "$from" "$0/\${each%/}"; fi
      done' "$path" <"$path.banger-old/${ignoredName}" || exit
  fi
  rm -rf "$path.banger-old"
}
`;

/** Takes back what an interrupted `prepare` left beside the path. */
const putBackScript = `${carryScript}
path=$1
if [ -f "$path/${updateNames.sent}" ] && [ -f "$path.banger-old/${ignoredName}" ]; then carry_over; fi
if [ ! -e "$path" ] && [ -e "$path.banger-old" ]; then mv "$path.banger-old" "$path" || exit; fi
`;

/** Says whether an update was begun. What that goes by stays: what was changed since the mark that it was begun with. */
const unfinishedScript = `${putBackScript}
if [ -e "$path/${updateNames.archive}" ] || [ -e "$path/${updateNames.coming}" ]; then echo unfinished; fi
`;

/** Guests of an older build do not know the former, or neither. */
const markScript = `
leave_mark() { ${lookProgram} -t "$1" 2>/dev/null || ${lookProgram} -m "$1" 2>/dev/null; }
`;

/**
 * Says what is at the path. What is changed later is newer than the mark that it leaves. The toolbox's shell runs it, and
 * the programs in it are the toolbox's, whatever the image has.
 */
const lookScript = `${putBackScript}${markScript}
[ ! -f "$path/${updateNames.sent}" ] || leave_mark "$path" || : >"$path/${updateNames.looked}"
if [ ! -e "$path" ] && [ ! -L "$path" ]; then echo missing
elif [ -d "$path" ] && [ -z "$(ls -A "$path")" ]; then echo empty
else echo present
fi
`;

/** All of it becomes the user's who unpacks it, which is whose it says it is: asking for that of each costs a third. */
const unpackScript = `${markScript}
rm -rf "$1.banger-new" && mkdir -p "$1.banger-new" || exit
${unpackInto('tar -x -o -f - -C "$1.banger-new"')} || exit
${makeBlobs('"$1.banger-new"')} || exit
rm -f "$1.banger-new/${updateNames.blobs}"
if leave_mark "$1.banger-new"; then
  mv -f "$1.banger-new/${updateNames.looked}" "$1.banger-new/${updateNames.quiet}"
fi
`;

/**
 * Between the two moves there is no tree at the path; `lookScript` ends that state if this is interrupted in it. With
 * git's words after the path, what was changed since it was looked at for the last time is moved back: it is compared
 * when nobody finds it by its path any more.
 */
const swapScript = `${carryScript}${changedScript}
path=$1
shift
in_use_there() (
  set -- "$path.banger-old" in_use "$@"
  ${insideScript}
  inside '' "$@"
)
# Whoever the tree was given to works on in the new one.
if [ -d "$path" ] && [ ! -O "$path" ]; then chown -hR "$(stat -c %u:%g "$path")" "$path.banger-new" || exit; fi
rm -rf "$path.banger-old" || exit
if [ -e "$path" ] || [ -L "$path" ]; then mv "$path" "$path.banger-old" || exit; fi
if [ $# != 0 ]; then
  newer= list=$path.banger-old/.git/banger-in-use
  if ! in_use_there "$@" >"$list" || ! newer=$(cd "$path.banger-old" && changed <"$list") || [ -n "$newer" ]; then
    mv "$path.banger-old" "$path" && rm -f "$path/.git/banger-in-use" || exit
    ${exitIfChanged}
    exit 1
  fi
fi
if ! mv "$path.banger-new" "$path"; then
  [ ! -e "$path.banger-old" ] || mv "$path.banger-old" "$path"
  exit 1
fi
carry_over
# Not waited for: what a user does next need not wait either.
sync </dev/null >/dev/null 2>&1 &
`;

export interface Look {
  /** Something is there. An empty directory counts as nothing. */
  readonly isOccupied: boolean;
}

/** Tells what is where a workspace is to go, and marks it as looked at. An update of it that was begun is finished before. */
export async function lookAt(place: GuestPlace, signal: AbortSignal): Promise<Look> {
  const words = (await runScript(place, lookScript, { signal })).toString('latin1').trim().split('\n');
  return { isOccupied: words.includes('present') };
}

/** Whether an update was begun. What an interrupted sending of all of it has moved away is back then. */
export async function isUnfinished(place: GuestPlace, signal: AbortSignal): Promise<boolean> {
  return (await runScript(place, unfinishedScript, { signal })).length > 0;
}

export interface SendTreeOptions {
  readonly operation: Operation;
  readonly commit: () => Promise<void>;
  /** The guest's git with its settings, when nothing of what is in the place may be lost */
  readonly guard?: readonly string[];
}

/**
 * Puts a shipment in the guest's place, all of it or nothing: it is unpacked beside the place and moved there; before
 * that `commit` is called. Throws `FileChangedError` when a file changed meanwhile and, with a git of the guest,
 * `GuestChangedError` when something in the place changed since it was marked as looked at.
 */
export async function sendTree(
  place: GuestPlace,
  shipment: Shipment,
  { operation, commit, guard = [] }: SendTreeOptions,
): Promise<void> {
  try {
    await stream(place, { script: unpackScript, shipment }, operation);
    await failpoint('tree unpacked');
    operation.signal.throwIfAborted();
    await commit();
    await failpoint('send announced');
    await runScript(place, swapScript, { signal: operation.signal, words: guard });
  } catch (error) {
    await discard(place);
    throw error;
  }
}

/** Feeds a shipment to a script as a tar stream, packed by gzip. Throws `FileChangedError` when a file changed meanwhile. */
export async function stream(
  place: GuestPlace,
  { script, shipment }: { readonly script: string; readonly shipment: Shipment },
  operation: Operation,
): Promise<void> {
  // A stream that fails must end the guest's program too, which would wait for the rest of its input.
  const stop = new AbortController();
  let failure: { readonly error: unknown } | undefined;
  const sending = new SendingProgress(shipment, operation);
  const content = async function* (): AsyncGenerator<Buffer> {
    try {
      yield* tarStream(sending.entries());
    } catch (error) {
      failure = { error };
      stop.abort();
      throw error;
    }
  };
  // Whoever reads it throws into it when the guest is gone, which is no failure of the content.
  const pieces = async function* (): AsyncGenerator<Buffer> {
    for await (const piece of content()) {
      yield piece;
      sending.note(piece.length);
    }
  };
  try {
    await runScript(place, script, {
      signal: AbortSignal.any([operation.signal, stop.signal]),
      input: Readable.from(packedPieces(pieces()), { objectMode: false, highWaterMark: 1024 * 1024 }),
    });
  } catch (error) {
    throw failure ? failure.error : error;
  }
  if (failure) throw failure.error;
}

/** Tells an operation how much of a shipment's content is behind, also within a large file. */
class SendingProgress {
  readonly #shipment: Shipment;
  readonly #operation: Operation;
  /** Content of the entries before the current one, and of that one */
  #done = 0;
  #currentBytes = 0;
  /** Since the current entry was begun, headers included */
  #sinceBytes = 0;

  constructor(shipment: Shipment, operation: Operation) {
    this.#shipment = shipment;
    this.#operation = operation;
  }

  *entries(): Generator<TarEntry> {
    for (const entry of this.#shipment.entries) {
      const { content } = entry;
      this.#sinceBytes = 0;
      this.#currentBytes =
        content.kind === 'file' ? content.sizeBytes : content.kind === 'bytes' ? content.bytes.length : 0;
      this.#tell();
      yield entry;
      this.#done += this.#currentBytes;
    }
    this.#currentBytes = 0;
    this.#tell();
  }

  note(bytes: number): void {
    this.#sinceBytes += bytes;
    this.#tell();
  }

  #tell(): void {
    const done = this.#done + Math.min(this.#sinceBytes, this.#currentBytes);
    this.#operation.progress({ done, total: this.#shipment.totalBytes, unit: 'bytes' });
  }
}

/** Removes what was not put in place, and puts back what was moved away for it. */
async function discard(place: GuestPlace): Promise<void> {
  const { guest, guestPath } = place;
  // The operation's own signal may be what ended it. What stays is for whoever comes next.
  const signal = AbortSignal.timeout(10_000);
  await guest
    .runToolbox(['rm', '-rf', `${guestPath}.banger-new`], { signal })
    .then(() => lookAt(place, signal))
    .catch(() => undefined);
}

export async function runScript(
  { guest, guestPath, vmName }: GuestPlace,
  script: string,
  {
    words = [],
    ...options
  }: { readonly signal: AbortSignal; readonly input?: Readable; readonly words?: readonly string[] },
): Promise<Buffer> {
  const output = await guest.runToolbox(['sh', '-c', script, 'banger', guestPath, ...words], options);
  if (output.exit.code === 0) return output.stdout;
  throwIfChanged(output);
  // Its input ended too early, of which a guest complains in its own words.
  if (options.signal.aborted) throw abortError(options.signal);
  if (wasKilled(output)) {
    throw new BangerError(
      'command_failed',
      `What was putting "${guestPath}" in VM "${vmName}" in place was killed there; the tree is the one before, or the new one`,
      { hint: `See whether memory ran out: banger vm exec ${vmName} -- free -m; then the same again` },
    );
  }
  throw new BangerError(
    'command_failed',
    `VM "${vmName}" cannot hold "${guestPath}"${complaint(output)}; what was there is as it was`,
    { hint: `See how much room there is with: banger vm exec ${vmName} -- df -h` },
  );
}

/** Whether a script was killed, or a part of it that it was waiting for. */
export function wasKilled({ exit, stderr }: GuestOutput): boolean {
  return (
    exit.signal !== undefined || (exit.code ?? 0) > 128 || /(?:^Killed|terminated by signal 9)$/m.test(stderr)
  );
}
