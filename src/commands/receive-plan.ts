import { LineReader } from '../engine/rpc/lines.ts';
import type { ParamsOf } from '../engine/rpc/method.ts';
import { plannedFile, planHead, workspacePlan, type WorkspacePlan } from '../engine/rpc/workspace-methods.ts';
import type { Cli } from './cli.ts';

/** Asks what of a tree would travel, and takes the whole list. */
export async function receivePlan(cli: Cli, params: ParamsOf<typeof workspacePlan>): Promise<WorkspacePlan> {
  const reader = new LineReader();
  const lines: unknown[] = [];
  await cli.transfer(workspacePlan, params, {
    output: async (piece) => void reader.push(piece, (line) => void lines.push(line)),
  });
  const [head, ...files] = lines;
  return { ...planHead.parse(head), files: files.map((file) => plannedFile.parse(file)) };
}
