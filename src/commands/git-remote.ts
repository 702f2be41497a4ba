import { Readable } from 'node:stream';
import { BangerError } from '../errors.ts';
import { workspaceUploadPack } from '../engine/rpc/workspace-methods.ts';
import type { Cli } from './cli.ts';
import { UsageError } from './usage-error.ts';

/** The name under which git looks for the program behind `banger::` and `banger://`. */
export const helperName = 'git-remote-banger';

/**
 * Speaks with git as a remote helper, see gitremote-helpers(7): git asks it to connect to `git-upload-pack`, and from
 * then on its standard input and output are that program's. Pushing is refused.
 */
export async function gitRemote(cli: Cli, words: readonly string[]): Promise<void> {
  const url = words[1] ?? words[0];
  if (url === undefined) {
    throw new UsageError(`${helperName} is for git to run`, 'Use it with: git fetch banger::NAME');
  }
  const target = parseRemoteUrl(url);
  const { stream } = cli.standardInput();
  try {
    await converse(cli, target, new LineInput(stream));
  } finally {
    // After a refusal git waits for us to end before it hangs up.
    stream.destroy();
  }
}

async function converse(cli: Cli, target: RemoteTarget, input: LineInput): Promise<void> {
  for (let line = await input.line(); line !== undefined && line !== ''; line = await input.line()) {
    if (line === 'capabilities') await cli.write('connect\noption\n\n');
    else if (line.startsWith('option ')) await cli.write(answerOption(line));
    else if (line === 'connect git-upload-pack') return connect(cli, target, input.rest());
    else throw refused(line, target.vm);
  }
}

interface RemoteTarget {
  readonly vm: string;
  readonly place: string | undefined;
}

/** Parses `NAME`, `NAME/path/in/the/guest` or either with `banger://` before it. */
export function parseRemoteUrl(url: string): RemoteTarget {
  const text = url.replace(/^banger:(?:\/\/|:)/, '');
  const slash = text.indexOf('/');
  const vm = slash < 0 ? text : text.slice(0, slash);
  const place = slash < 0 ? '' : text.slice(slash).replace(/\/+$/, '');
  if (vm !== '') return { vm, place: place === '' ? undefined : place };
  throw new UsageError(`"${url}" names no VM`, 'Write banger::NAME, or banger::NAME/path/in/the/VM');
}

function answerOption(line: string): string {
  return /^option (?:verbosity -?\d+|progress (?:true|false))$/.test(line) ? 'ok\n' : 'unsupported\n';
}

/** Git is told that it is connected when the other side begins to speak: what goes wrong before that is said by us. */
async function connect(cli: Cli, target: RemoteTarget, input: Readable): Promise<void> {
  let isConnected = false;
  const output = async (piece: Buffer): Promise<void> => {
    if (!isConnected) {
      isConnected = true;
      await cli.write('\n');
    }
    await cli.write(piece);
  };
  const exit = await cli.transfer(workspaceUploadPack, target, { input, output });
  if (exit.code !== 0) cli.exitWith(1);
}

function refused(line: string, vm: string): BangerError {
  if (line === 'connect git-receive-pack') {
    return new BangerError('invalid_argument', `git cannot push into VM "${vm}"`, {
      hint: `Send your tree with: banger workspace prepare . --vm ${vm}`,
    });
  }
  return new BangerError('invalid_argument', `git asks for "${line}", which banger does not do`, {
    hint: 'Fetch from the VM, clone it, or list what it has',
  });
}

/** Lines of a stream, then what follows them. */
class LineInput {
  readonly #chunks: AsyncIterator<Buffer>;
  #rest: Buffer = Buffer.alloc(0);

  constructor(stream: Readable) {
    this.#chunks = stream.iterator({ destroyOnReturn: false }) as AsyncIterator<Buffer>;
  }

  /** The next line without its end; undefined when there is none */
  async line(): Promise<string | undefined> {
    for (;;) {
      const end = this.#rest.indexOf('\n');
      if (end >= 0) {
        const line = this.#rest.subarray(0, end).toString('utf8');
        this.#rest = this.#rest.subarray(end + 1);
        return line;
      }
      const next = await this.#chunks.next();
      if (next.done) return undefined;
      this.#rest = Buffer.concat([this.#rest, next.value]);
    }
  }

  rest(): Readable {
    const [first, chunks] = [this.#rest, this.#chunks];
    return Readable.from(
      (async function* () {
        if (first.length > 0) yield first;
        for (let next = await chunks.next(); !next.done; next = await chunks.next()) yield next.value;
      })(),
      { objectMode: false },
    );
  }
}
