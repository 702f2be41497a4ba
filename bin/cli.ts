import { tmpdir } from 'node:os';
import { isSea } from 'node:sea';
import { errorLines } from '../src/commands/error-lines.ts';
import { UsageError } from '../src/commands/usage-error.ts';
import { usageErrorOf } from '../src/commands/usage-message.ts';
import { BangerError } from '../src/errors.ts';
import { buildInfo, openAssets } from '../src/host/assets.ts';
import { refuseBorrowedHome } from '../src/host/borrowed-home.ts';
import type { Layout } from '../src/state/layout.ts';
import { migrations } from '../src/state/schema.ts';
import { ownLayout } from './own-layout.ts';

/** Hidden first word by which shells ask for completions. */
const completeWord = '__complete';
/** First word by which git asks for a connection to a VM; see `commands/git-remote.ts`. */
const gitRemoteWord = 'git-remote';
/** First word by which ssh asks for one; see `commands/ssh-proxy.ts`. */
const sshProxyWord = 'ssh-proxy';

const exitCodes = { usage: 2, failed: 1, runFailed: 125, interrupted: 130, unread: 141 } as const;

export async function runCommand(words: readonly string[], engineWord: string): Promise<number> {
  let layout: Layout;
  try {
    layout = ownLayout();
  } catch (error) {
    process.stderr.write(errorLines(error, words.includes('--json')));
    return exitCodes.usage;
  }
  const [{ CliRuntime }, { buildProgram }] = await Promise.all([
    import('../src/commands/cli-runtime.ts'),
    import('../src/commands/program.ts'),
  ]);
  const build = { ...buildInfo(), schema: migrations.length };
  const { engineArgv, engineEnv } = engineStart(engineWord);
  const cli = new CliRuntime({
    connect: {
      socketPath: layout.engineSocket,
      startLock: layout.startLock,
      engineLog: layout.engineLog,
      engineNote: layout.engineNote,
      build,
      engineArgv,
      engineEnv,
    },
    // As a whole: to get stdin is to open it, and few commands read it.
    streams: process,
    env: process.env,
    cwd: process.cwd(),
    onInterrupt,
  });
  const input = {
    cli,
    env: process.env,
    build,
    program: process.argv[1]?.endsWith('.ts') ? process.argv[1] : process.execPath,
    doctor: {
      layout,
      temporaryDirectory: tmpdir(),
      home: process.env['BANGER_HOME'],
      makeRootDisk: async (path: string) => {
        const { makeRootDisk } = await import('./doctor-disk.ts');
        await makeRootDisk(openAssets(layout.assetsDirectory), path);
      },
    },
    setJson: (json: boolean) => {
      cli.json = json;
    },
  };
  cli.json = words.includes('--json') && !words.slice(0, words.indexOf('--json')).includes('--');
  const checkHome = (): void =>
    refuseBorrowedHome({
      uid: process.getuid!(),
      env: process.env,
      directories: [layout.stateDirectory, layout.cacheDirectory],
    });
  try {
    if (words[0] === completeWord) {
      const { completeWords } = await import('../src/commands/complete.ts');
      const candidates = await completeWords(await buildProgram(input, []), cli, words.slice(1));
      if (candidates.length > 0) await cli.write(`${candidates.join('\n')}\n`);
      return 0;
    }
    if (words[0] === gitRemoteWord) {
      const { gitRemote } = await import('../src/commands/git-remote.ts');
      checkHome();
      await gitRemote(cli, words.slice(1));
      return cli.exitCode;
    }
    if (words[0] === sshProxyWord) {
      const { sshProxy } = await import('../src/commands/ssh-proxy.ts');
      checkHome();
      await sshProxy(cli, words.slice(1), process.stdout);
      return cli.exitCode;
    }
    const program = await buildProgram(input, words);
    program.hook('preAction', checkHome);
    prepareErrors(program);
    await program.parseAsync([...words], { from: 'user' });
    return cli.exitCode;
  } catch (error) {
    return failureCode(error, words, (known) => cli.reportError(known));
  }
}

/** Prints what went wrong, unless it has been, and says what the shell gets to see. */
function failureCode(error: unknown, words: readonly string[], report: (error: unknown) => void): number {
  // Help and version, which have been printed.
  if (isCommanderError(error)) return error.exitCode === 0 ? 0 : exitCodes.usage;
  report(error);
  if (error instanceof UsageError) return exitCodes.usage;
  if (error instanceof BangerError && error.code === 'cancelled') return exitCodes.interrupted;
  return runsProgram(words) ? exitCodes.runFailed : exitCodes.failed;
}

/** A command whose exit code is that of a program in a guest, as far as there is one. */
function runsProgram(words: readonly string[]): boolean {
  const [group, verb] = words.filter((word) => !word.startsWith('-'));
  return group === 'vm' && ['exec', 'run', 'ssh', 'shell'].includes(verb ?? '');
}

function isCommanderError(error: unknown): error is Error & { exitCode: number } {
  return (
    error instanceof Error &&
    'exitCode' in error &&
    'code' in error &&
    String(error.code).startsWith('commander.')
  );
}

interface Tree {
  name(): string;
  aliases(): string[];
  exitOverride(callback: (error: Error & { code: string }) => never): unknown;
  configureOutput(output: { outputError: () => void }): unknown;
  readonly commands: readonly Tree[];
}

/** Usage errors look like all others, and are thrown instead of ending the process. */
function prepareErrors(root: Tree): void {
  const elsewhere = (name: string): string[] =>
    root.commands.flatMap((group) =>
      group.commands
        .filter((one) => one.name() === name || one.aliases().includes(name))
        .map((one) => `${root.name()} ${group.name()} ${one.name()}`),
    );
  const prepare = (command: Tree, path: readonly string[]): void => {
    const words = [...path, command.name()];
    command.exitOverride((error) => {
      if (!error.message.startsWith('error: ')) throw error;
      throw usageErrorOf(error.message, { words, elsewhere: command === root ? elsewhere : () => [] });
    });
    command.configureOutput({ outputError: () => undefined });
    for (const child of command.commands) prepare(child, words);
  };
  prepare(root, []);
}

/** In a single executable the program is its own first argument; in development, Node runs this file. */
function engineStart(engineWord: string): {
  engineArgv: [string, ...string[]];
  engineEnv: Record<string, string | undefined>;
} {
  const script = process.argv[1]!;
  const isSource = !isSea();
  const engineEnv = { ...process.env, NODE_OPTIONS: undefined, NODE_CHANNEL_FD: undefined };
  return { engineArgv: [process.execPath, ...(isSource ? [script] : []), engineWord], engineEnv };
}

/** Everything that wants to know of Ctrl-C now. */
const interruptCallbacks = new Set<() => boolean>();

function onInterrupt(callback: () => boolean): () => void {
  interruptCallbacks.add(callback);
  return () => interruptCallbacks.delete(callback);
}

process.on('SIGINT', () => {
  const answers = [...interruptCallbacks].map((callback) => callback());
  if (!answers.includes(true)) process.exit(exitCodes.interrupted);
});
for (const output of [process.stdout, process.stderr]) {
  output.on('error', (error: NodeJS.ErrnoException) => {
    // `banger vm list | head -1`: whoever read has what they wanted. It is SIGPIPE that ends other programs then.
    if (error.code === 'EPIPE') process.exit(exitCodes.unread);
    // Anything but 0: what was to be kept, such as a dump that a guest's program printed, is not whole.
    if (output === process.stdout)
      process.stderr.write(errorLines(unwritable(error), process.argv.includes('--json')));
    process.exit(runsProgram(process.argv.slice(2)) ? exitCodes.runFailed : exitCodes.failed);
  });
}

function unwritable(error: NodeJS.ErrnoException): BangerError {
  const isFull = error.code === 'ENOSPC' || error.code === 'EDQUOT';
  const why = isFull ? 'the disk is full' : (error.code ?? error.message);
  return new BangerError('command_failed', `Standard output cannot be written: ${why}`, {
    hint: 'What was written is not all of it: make room, or send the output elsewhere, and run the command again',
    cause: error,
  });
}
