import type { Readable } from 'node:stream';
import { abortError, BangerError } from '../../errors.ts';
import { getImage } from '../../state/images.ts';
import { findVmTemplate } from '../../state/templates.ts';
import { checkAgentSocket } from '../../host/agent-socket.ts';
import type { Vm } from '../../state/vms.ts';
import { listWorkspaces, type Workspace } from '../../state/workspaces.ts';
import type { EngineContext } from '../context.ts';
import type { GuestExecOptions, GuestExit, GuestProcess } from '../guest.ts';
import type { Operation } from '../operations.ts';
import { BulkMeter } from '../optimizer.ts';
import type { EngineStream } from '../rpc/frame-stream.ts';
import { withMise } from '../setup/guest-mise.ts';
import { deliverSecrets, withdrawSecrets } from './deliver-secrets.ts';
import { planProgram, type PlannedProgram } from './image-program.ts';

export interface ExecParams {
  /** Absent: the image's login shell */
  readonly argv?: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  /** Values by name that only this program gets; nothing of this host may write them down */
  readonly secrets: Readonly<Record<string, string>>;
  /** Where the caller's SSH agent listens, when the program may use it */
  readonly agentSocket?: string;
  readonly workingDirectory?: string;
  readonly user?: string;
  /** Run the image's own entrypoint; `argv` are arguments for it then */
  readonly entrypoint?: boolean;
  readonly terminal?: { readonly term: string; readonly columns: number; readonly rows: number };
}

/**
 * Runs a program in a running VM with the client's stream as its standard input and output, and returns how it
 * ended. When the client goes away, however that ended, the program is sent a hang-up.
 */
export async function execVm(
  context: EngineContext,
  request: { readonly vm: Vm; readonly params: ExecParams; readonly stream: EngineStream },
  operation: Operation,
): Promise<GuestExit> {
  const { vm, params, stream } = request;
  requireRunning(vm);
  const workspaces = listWorkspaces(context.db, vm.id);
  const program = throughTools(
    asRoot(
      planProgram(
        params,
        { name: vm.imageName, config: getImage(context.db, vm.imageId).config },
        // The working tree that was sent last.
        workspaces[0]?.guestPath,
      ),
    ),
    params.entrypoint ? [] : workspaces,
  );
  if (params.agentSocket !== undefined) await checkAgentSocket(params.agentSocket);
  const guest = await context.guest(vm, operation.signal);
  const secrets = await deliverSecrets(guest, params.secrets, operation.signal);
  const options: GuestExecOptions = {
    env: { ...findVmTemplate(context.db, vm.id)?.template.env, ...params.env },
    user: program.user,
    terminal: params.terminal,
    secrets,
    agentSocket: params.agentSocket,
    workingDirectory: program.workingDirectory,
    fallBackToHome: program.fallBackToHome,
    signal: operation.signal,
    hangsUp: true,
  };
  let process: GuestProcess;
  try {
    process = program.argv ? await guest.spawn(program.argv, options) : await guest.shell(options);
  } catch (error) {
    if (secrets) await withdrawSecrets(guest, secrets);
    throw error;
  }
  return bridge(process, stream, operation.signal);
}

/** Root is who programs run as anyway, in images too that have no user of that name. */
function asRoot(program: PlannedProgram): PlannedProgram {
  return program.user === 'root' ? { ...program, user: undefined } : program;
}

/** In a workspace whose tools were installed, root's programs and shells have them; other users cannot read them. */
function throughTools(program: PlannedProgram, workspaces: readonly Workspace[]): PlannedProgram {
  const { user, workingDirectory } = program;
  if (user !== undefined || workingDirectory === undefined) return program;
  const isIn = ({ guestPath }: Workspace): boolean => `${workingDirectory}/`.startsWith(`${guestPath}/`);
  const found = workspaces.find(isIn);
  if (!found?.tools) return program;
  return { ...program, argv: withMise({ directory: found.guestPath, ...found.tools }, program.argv) };
}

/** Throws unless the VM's guest can be talked to. */
export function requireRunning(vm: Vm): void {
  if (vm.state === 'running') return;
  throw new BangerError('invalid_state', `VM "${vm.name}" is ${vm.state}, not running`, {
    hint: runningHint(vm),
  });
}

function runningHint({ state, name }: Vm): string {
  if (state === 'stopped') return `Start it with: banger vm start ${name}`;
  if (state === 'paused') return `Let it go on with: banger vm resume ${name}`;
  return `See what it is doing with: banger vm show ${name}`;
}

/** How far a client's standard input may run ahead of the program that reads it. */
const inputWindowBytes = 1024 * 1024;

/** Frames to program and back, with back-pressure both ways, until the program has ended and its output is sent. */
export async function bridge(
  process: GuestProcess,
  stream: EngineStream,
  signal: AbortSignal,
): Promise<GuestExit> {
  const inputMeter = new BulkMeter();
  stream.onFrame(async (frame) => {
    switch (frame.type) {
      case 'stdin':
        inputMeter.note(frame.payload.length);
        if (process.stdio.writable && !process.stdio.write(frame.payload)) await drained(process);
        await stream.send('credit', String(frame.payload.length));
        return;
      case 'stdin-end':
        process.stdio.end();
        return;
      case 'resize': {
        const size = JSON.parse(frame.payload.toString()) as { columns: number; rows: number };
        process.resize(size.columns, size.rows);
        return;
      }
      case 'signal':
        process.sendSignal(frame.payload.toString());
        return;
      case 'stdout':
      case 'stderr':
      case 'exit':
      case 'failure':
      case 'progress':
      case 'credit':
        throw new BangerError('invalid_argument', `A client does not send "${frame.type}" frames`);
    }
  });
  // Read to the end, the channel must stay: a destroyed one is closed at once, and the guest's word about how the
  // program ended, which comes after its output, would be lost now and then.
  await stream.send('credit', String(inputWindowBytes));
  const pump = async (from: Readable, type: 'stdout' | 'stderr'): Promise<void> => {
    const meter = new BulkMeter();
    for await (const chunk of from.iterator({ destroyOnReturn: false })) {
      meter.note((chunk as Buffer).length);
      await stream.send(type, chunk as Buffer);
    }
  };
  await Promise.all([pump(process.stdio, 'stdout'), pump(process.stderr, 'stderr')]).catch(
    (error: unknown) => {
      if (signal.aborted) throw abortError(signal);
      throw error;
    },
  );
  return process.exit;
}

async function drained(process: GuestProcess): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  process.stdio.once('drain', resolve);
  process.stdio.once('close', resolve);
  await promise;
  process.stdio.off('drain', resolve);
  process.stdio.off('close', resolve);
}
