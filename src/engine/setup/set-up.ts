import { BangerError } from '../../errors.ts';
import type { Template } from '../../state/templates.ts';
import type { Vm } from '../../state/vms.ts';
import { listWorkspaces } from '../../state/workspaces.ts';
import type { WorkspaceContext } from '../context.ts';
import type { GuestExit, GuestProcess } from '../guest.ts';
import type { Operation } from '../operations.ts';
import { withMise } from './guest-mise.ts';
import { tellLines } from './tell-lines.ts';

export interface SetUpInput {
  readonly vm: Vm;
  /** Where the tree is in the guest */
  readonly guestPath: string;
  readonly template: Template;
  /** The template's, and what the user adds to them */
  readonly env: Readonly<Record<string, string>>;
}

/**
 * Runs a template's commands in the tree in the guest, as root, one after the other. What they print is told as notes.
 * The first that fails ends it (`command_failed`).
 */
export async function setUp(
  context: Pick<WorkspaceContext, 'db' | 'guest'>,
  { vm, guestPath, template, env }: SetUpInput,
  operation: Operation,
): Promise<void> {
  const { setup, file } = template;
  if (setup.length === 0) return;
  operation.enter('Setting up');
  const guest = await context.guest(vm, operation.signal);
  const tools = listWorkspaces(context.db, vm.id).find((one) => one.guestPath === guestPath)?.tools;
  for (const { argv, text } of setup) {
    operation.progress({ detail: text.split('\n')[0] });
    const process = await guest.spawn(tools ? withMise({ directory: guestPath, ...tools }, argv) : argv, {
      workingDirectory: guestPath,
      env,
      signal: operation.signal,
      hangsUp: true,
    });
    const { code, signal } = await runToEnd(process, operation);
    if (code === 0) continue;
    const how = code === undefined ? `was ended by signal ${signal}` : `failed with exit code ${code}`;
    throw new BangerError('command_failed', `Setup command "${text}" of "${file}" ${how}`, {
      hint: 'To look around in a VM where it failed: banger vm run --keep PATH; to go without: --no-template',
    });
  }
}

/** Runs a program that reads nothing, and tells its output line by line. */
export async function runToEnd(process: GuestProcess, operation: Operation): Promise<GuestExit> {
  process.stdio.end();
  await Promise.all([tellLines(process.stdio, operation), tellLines(process.stderr, operation)]);
  return process.exit;
}
