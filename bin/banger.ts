import { homedir, tmpdir } from 'node:os';
import { BangerError } from '../src/errors.ts';
import { buildInfo } from '../src/host/assets.ts';
import { resolveLayout } from '../src/state/layout.ts';

/** Hidden first word that makes this process the engine. */
const engineWord = '__engine';
/** Hidden first word by which shells ask for completions. */
const completeWord = '__complete';

const exitCodes = { usage: 2, failed: 1, runFailed: 125, interrupted: 130 } as const;

async function main(): Promise<void> {
  const words = process.argv.slice(2);
  const layout = resolveLayout({
    env: process.env,
    home: homedir(),
    uid: process.getuid!(),
    temporaryDirectory: tmpdir(),
  });
  if (words[0] === engineWord) {
    const { startEngine } = await import('./engine.ts');
    await startEngine(layout);
    // ssh2 and the database leave nothing running that matters; a stray timer must not keep an engine without a socket.
    process.exit(0);
  }
  process.exitCode = await runCommand(words, layout);
}

async function runCommand(
  words: readonly string[],
  layout: ReturnType<typeof resolveLayout>,
): Promise<number> {
  const [{ CliRuntime }, { buildProgram }] = await Promise.all([
    import('../src/commands/cli-runtime.ts'),
    import('../src/commands/program.ts'),
  ]);
  const build = buildInfo();
  const { engineArgv, engineEnv } = engineStart();
  const cli = new CliRuntime({
    connect: {
      socketPath: layout.engineSocket,
      startLock: layout.startLock,
      engineLog: layout.engineLog,
      build,
      engineArgv,
      engineEnv,
    },
    streams: { stdin: process.stdin, stdout: process.stdout, stderr: process.stderr },
    env: process.env,
    cwd: process.cwd(),
    onInterrupt,
  });
  const input = {
    cli,
    env: process.env,
    build,
    doctor: { layout, temporaryDirectory: tmpdir() },
    setJson: (json: boolean) => {
      cli.json = json;
    },
  };
  cli.json = words.includes('--json') && !words.slice(0, words.indexOf('--json')).includes('--');
  try {
    if (words[0] === completeWord) {
      const { completeWords } = await import('../src/commands/complete.ts');
      const candidates = await completeWords(await buildProgram(input, []), cli, words.slice(1));
      if (candidates.length > 0) await cli.write(`${candidates.join('\n')}\n`);
      return 0;
    }
    const program = await buildProgram(input, words);
    exitOverrideEverywhere(program);
    await program.parseAsync([...words], { from: 'user' });
    return cli.exitCode;
  } catch (error) {
    return failureCode(error, words, (known) => cli.reportError(known));
  }
}

/** Prints what went wrong, unless it has been, and says what the shell gets to see. */
function failureCode(error: unknown, words: readonly string[], report: (error: unknown) => void): number {
  if (isCommanderError(error)) return error.exitCode === 0 ? 0 : exitCodes.usage;
  report(error);
  if (error instanceof BangerError && error.code === 'cancelled') return exitCodes.interrupted;
  const runsProgram = words[0] === 'vm' && ['exec', 'run', 'ssh', 'shell'].includes(words[1] ?? '');
  return runsProgram ? exitCodes.runFailed : exitCodes.failed;
}

/** Commander has printed help, version or usage error by itself by the time it throws. */
function isCommanderError(error: unknown): error is Error & { exitCode: number } {
  return (
    error instanceof Error &&
    'exitCode' in error &&
    'code' in error &&
    String(error.code).startsWith('commander.')
  );
}

interface Tree {
  exitOverride(): unknown;
  readonly commands: readonly Tree[];
}

function exitOverrideEverywhere(command: Tree): void {
  command.exitOverride();
  command.commands.forEach(exitOverrideEverywhere);
}

/** In a single executable the program is its own first argument; in development, Node runs this file. */
function engineStart(): { engineArgv: [string, ...string[]]; engineEnv: Record<string, string | undefined> } {
  const script = process.argv[1];
  const isSource = script?.endsWith('.ts') ?? false;
  const engineEnv = { ...process.env, NODE_OPTIONS: undefined, NODE_CHANNEL_FD: undefined };
  return { engineArgv: [process.execPath, ...(isSource ? [script!] : []), engineWord], engineEnv };
}

let interruptCallback: (() => void) | undefined;

function onInterrupt(callback: () => void): () => void {
  const before = interruptCallback;
  interruptCallback = callback;
  return () => {
    interruptCallback = before;
  };
}

let interrupts = 0;
process.on('SIGINT', () => {
  interrupts++;
  if (interruptCallback && interrupts <= 2) interruptCallback();
  if (!interruptCallback || interrupts > 2) process.exit(exitCodes.interrupted);
});
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  // `banger vm list | head -1`: whoever read has what they wanted.
  if (error.code === 'EPIPE') process.exit(exitCodes.failed);
});

void main().catch((error: unknown) => {
  process.stderr.write(
    `banger: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`,
  );
  process.exitCode = exitCodes.failed;
});
