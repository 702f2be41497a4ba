import { resolve } from 'node:path';
import { Option } from 'commander';
import type { ParamsOf } from '../engine/rpc/method.ts';
import type { workspaceList } from '../engine/rpc/workspace-methods.ts';
import type { Cli } from './cli.ts';

/** Which of the trees that were sent is meant. */
export interface WorkspaceOptions {
  readonly vm?: string;
  readonly guestPath?: string;
}

export function sentToOption(): Option {
  return new Option('--vm <name>', 'the VM (default: the one the tree was last sent to)');
}

export function sentIntoOption(): Option {
  return new Option('--guest-path <path>', 'where it is in the VM, when that has it in several places');
}

/** The tree around the current directory, unless the VM is to say which. */
export function sentWorkspace(
  cli: Pick<Cli, 'cwd'>,
  path: string | undefined,
  { vm, guestPath }: WorkspaceOptions,
): ParamsOf<typeof workspaceList> {
  const isVmAlone = path === undefined && vm !== undefined;
  return { path: isVmAlone ? undefined : resolve(cli.cwd, path ?? '.'), vm, guestPath };
}
