import { Readable } from 'node:stream';
import { abortError, BangerError } from '../../errors.ts';
import type { Vm } from '../../state/vms.ts';
import type { EngineContext } from '../context.ts';
import type { Guest, GuestOutput } from '../guest.ts';
import { requireRunning } from '../lifecycle/exec-vm.ts';
import type { Operation } from '../operations.ts';
import type { EngineStream } from '../rpc/frame-stream.ts';
import type { ParsedParams, ResultOf } from '../rpc/method.ts';
import { guestPathKinds, type vmCopyIn, type vmCopyOut, type vmPath } from '../rpc/vm-copy-methods.ts';
import { BulkMeter } from '../optimizer.ts';
import { packedPieces, unpackInto } from '../packed-pieces.ts';
import { counted, standardInput } from '../standard-input.ts';

type Context = Pick<EngineContext, 'guest'>;
type Request<M extends typeof vmPath | typeof vmCopyIn | typeof vmCopyOut> = Omit<ParsedParams<M>, 'vm'> & {
  readonly vm: Vm;
};
interface Transfer {
  readonly operation: Operation;
  readonly stream: EngineStream;
}

/**
 * Follows symlinks at the end of a path, in path, also to where there is nothing yet; after forty it gives up.
 * (\`readlink -f\` of busybox 1.35 does not find what is missing in another directory.)
 */
const followFunction = `
follow_links() {
  path=$1 links=0
  while [ -L "$path" ]; do
    links=$((links + 1)); [ $links -le 40 ] || return 1
    target=$(readlink "$path"; echo x) target=\${target%?x}
    case $target in /*) path=$target ;; *) path=\${path%/*}/$target ;; esac
  done
}`;

/** The toolbox's shell runs these: they work in any image, also in one without a shell. */
const lookScript = `${followFunction}
if [ "$2" != follow ] && [ -L "$1" ]; then echo symlink 0
elif [ -d "$1" ]; then echo directory 0
elif [ -f "$1" ]; then echo file "$(stat -L -c %s "$1")"
elif [ -e "$1" ]; then echo other 0
elif ! follow_links "$1"; then echo no-parent 0
else
  while :; do case $path in /*/) path=\${path%/} ;; *) break ;; esac; done
  parent=\${path%/*}
  if [ -d "\${parent:-/}" ]; then echo missing 0; else echo no-parent 0; fi
fi`;

const packDirectoryScript = 'exec tar -c -f - -C "$1" .';
const packFileScript = `
parent=\${1%/*}
[ "$2" != follow ] || set -- "$1" -h
exec tar -c $2 -f - -C "\${parent:-/}" "./\${1##*/}"`;

const unpackDirectoryScript = unpackInto('tar -x -f - -C "$1"');
/** Unpacked beside its place and moved there, so that nobody ever sees half of it. */
const unpackFileScript = `${followFunction}
path=$1
[ "$2" != follow ] || follow_links "$1" || exit
beside=$(mktemp -d "\${path%/*}/.banger-cp-XXXXXX") || exit
trap 'rm -rf "$beside"' EXIT
trap 'exit 1' HUP INT TERM
${unpackInto('tar -x -f - -C "$beside"')} && mv -f -T "$beside/file" "$path"`;

/** Tells what is at a path of a running VM. Throws `invalid_state` when it is not running. */
export async function lookAtPath(
  context: Context,
  { vm, path, follow }: Request<typeof vmPath>,
  { signal }: Operation,
): Promise<ResultOf<typeof vmPath>> {
  const guest = await runningGuest(context, vm, signal);
  const output = await guest.runToolbox(script(lookScript, path, follow), { signal });
  const [word, size] = output.stdout.toString('latin1').trim().split(' ');
  const kind = guestPathKinds.find((known) => known === word);
  const sizeBytes = Number(size);
  if (kind === undefined || !Number.isSafeInteger(sizeBytes) || sizeBytes < 0)
    throw failed(vm, `cannot tell what "${path}" is`, output);
  return { kind, sizeBytes };
}

/** Sends a tar of what is at a path to the client. What the guest complains about is an error once all has been sent. */
export async function copyOut(
  context: Context,
  request: Request<typeof vmCopyOut>,
  { operation, stream }: Transfer,
): Promise<{ warnings: string[] }> {
  const { vm, path, kind, follow, totalBytes } = request;
  const { signal } = operation;
  operation.enter(`Copying from ${vm.name}`);
  const guest = await runningGuest(context, vm, signal);
  const pack = kind === 'directory' ? packDirectoryScript : packFileScript;
  const process = await guest.spawnToolbox(script(pack, path, follow), { signal });
  const complaints = new Complaints();
  process.stderr.on('data', (chunk: Buffer) => complaints.add(chunk));
  process.stdio.end();
  const tell = progressOf(operation, totalBytes);
  try {
    // Not destroyed when it has ended: the guest's word about how tar ended comes after its output.
    const output = process.stdio.iterator({ destroyOnReturn: false });
    const meter = new BulkMeter();
    for await (const chunk of counted(output, tell)) {
      meter.note(chunk.length);
      await stream.send('stdout', chunk);
    }
  } catch (error) {
    if (signal.aborted) throw abortError(signal);
    throw error;
  }
  const exit = await process.exit;
  if (exit.code === 0) return { warnings: complaints.lines() };
  throw failed(vm, `could not read all of "${path}"`, { exit, stderr: complaints.text() });
}

/** Unpacks a client's tar at a path. */
export async function copyIn(
  context: Context,
  request: Request<typeof vmCopyIn>,
  { operation, stream }: Transfer,
): Promise<{ warnings: string[] }> {
  const { vm, path, as, follow, totalBytes } = request;
  const { signal } = operation;
  operation.enter(`Copying to ${vm.name}`);
  const guest = await runningGuest(context, vm, signal);
  const tell = progressOf(operation, totalBytes);
  const input = Readable.from(packedPieces(counted(await standardInput(stream, signal), tell)), {
    objectMode: false,
  });
  const unpack = as === 'directory' ? unpackDirectoryScript : unpackFileScript;
  let output: GuestOutput;
  try {
    output = await guest.runToolbox(script(unpack, path, follow), { signal, input });
  } catch (error) {
    if (signal.aborted) throw abortError(signal);
    throw error;
  }
  // Its input ended too early then, of which a guest complains in its own words.
  if (output.exit.code !== 0 && signal.aborted) throw abortError(signal);
  if (output.exit.code !== 0) throw failed(vm, `cannot hold all of it at "${path}"`, output);
  const complaints = new Complaints();
  complaints.add(Buffer.from(output.stderr));
  return { warnings: complaints.lines() };
}

/** The tar around a file is no part of it. */
function progressOf(operation: Operation, total: number | undefined): (done: number) => void {
  return (done) => operation.progress({ done: Math.min(done, total ?? done), total, unit: 'bytes' });
}

async function runningGuest(context: Context, vm: Vm, signal: AbortSignal): Promise<Guest> {
  requireRunning(vm);
  return context.guest(vm, signal);
}

function script(text: string, path: string, follow: boolean): string[] {
  return ['sh', '-c', text, 'banger', path, follow ? 'follow' : ''];
}

function failed(vm: Vm, what: string, output: Pick<GuestOutput, 'exit' | 'stderr'>): BangerError {
  const words = output.stderr.trim().split('\n').at(-1)?.slice(0, 300) ?? '';
  const isFull = /No space left/.test(words);
  return new BangerError('command_failed', `VM "${vm.name}" ${what}${words ? `: ${words}` : ''}`, {
    hint: isFull
      ? `See how much room there is with: banger vm exec ${vm.name} -- df -h`
      : `Look at it with: banger vm ssh ${vm.name}`,
  });
}

/** What a program says on standard error, as far as anybody would read it. */
class Complaints {
  #text = '';

  add(chunk: Buffer): void {
    // The end is kept: it says why a program gave up.
    this.#text = (this.#text + chunk.toString('utf8')).slice(-8192);
  }

  text(): string {
    return this.#text;
  }

  lines(): string[] {
    return this.#text.split('\n').filter((line) => line.trim() !== '');
  }
}
