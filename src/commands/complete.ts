import type { Command } from 'commander';
import { imageList } from '../engine/rpc/image-methods.ts';
import { kernelList } from '../engine/rpc/kernel-methods.ts';
import { operationList } from '../engine/rpc/operation-methods.ts';
import { vmList } from '../engine/rpc/vm-methods.ts';
import type { Cli } from './cli.ts';

/**
 * Candidates for the last of these words: subcommands, options, and names of VMs, images and kernels. Names are asked of
 * a running engine only: pressing Tab starts nothing.
 */
export async function completeWords(program: Command, cli: Cli, words: readonly string[]): Promise<string[]> {
  const current = words.at(-1) ?? '';
  let command = program;
  let depth = 0;
  for (const word of words.slice(0, -1)) {
    const next = command.commands.find((one) => one.name() === word || one.aliases().includes(word));
    if (!next) break;
    command = next;
    depth++;
  }
  const before = words.slice(depth, -1);
  if (before.includes('--')) return [];
  if (current.startsWith('-')) return command.options.flatMap((option) => option.long ?? []);
  if (command.commands.length > 0) return command.commands.map((one) => one.name());
  const previous = before.at(-1);
  if (previous === '--image') return imageNames(cli);
  if (previous === '--kernel') return kernelNames(cli);
  const values = command.options.find(
    (option) => option.long === previous || option.short === previous,
  )?.argChoices;
  if (values) return [...values];

  const argument = command.registeredArguments[0];
  if (argument?.argChoices) return [...argument.argChoices];
  if (previous === '--vm' || argument?.name() === 'vm') return vmNames(cli);
  // One of the two is in a VM; the shell itself completes local paths when none of these fits.
  if (command.name() === 'cp') return (await vmNames(cli)).map((name) => `${name}:`);
  if (argument?.name() === 'image') return imageNames(cli);
  if (argument?.name() === 'operation') return operationIds(cli);
  if (argument?.name() === 'kernel') return kernelNames(cli);
  return [];
}

async function operationIds(cli: Cli): Promise<string[]> {
  return ((await cli.callIfRunning(operationList, {})) ?? []).map((operation) => operation.id);
}

async function vmNames(cli: Cli): Promise<string[]> {
  return ((await cli.callIfRunning(vmList, {})) ?? []).map((vm) => vm.name);
}

async function kernelNames(cli: Cli): Promise<string[]> {
  return ((await cli.callIfRunning(kernelList, {})) ?? []).flatMap((kernel) => kernel.names);
}

async function imageNames(cli: Cli): Promise<string[]> {
  return ((await cli.callIfRunning(imageList, {})) ?? []).flatMap((image) => image.names);
}
