import { exportHead, workspaceExport, type ExportHead } from '../engine/rpc/workspace-methods.ts';
import type { ParamsOf } from '../engine/rpc/method.ts';
import type { Cli } from './cli.ts';

interface Receiver {
  /** Takes what comes after the head, piece by piece */
  readonly output: (piece: Buffer, head: ExportHead) => Promise<void>;
}

/** Gets an export: what it is about, when all of it has been taken. */
export async function receiveExport(
  cli: Cli,
  params: ParamsOf<typeof workspaceExport>,
  { output }: Receiver,
): Promise<ExportHead> {
  let line: Buffer[] = [];
  let head: ExportHead | undefined;
  const onPiece = async (piece: Buffer): Promise<void> => {
    if (head) return output(piece, head);
    const end = piece.indexOf('\n');
    line.push(end < 0 ? piece : piece.subarray(0, end));
    if (end < 0) return;
    head = exportHead.parse(JSON.parse(Buffer.concat(line).toString('utf8')));
    line = [];
    if (end + 1 < piece.length) await output(piece.subarray(end + 1), head);
  };
  await cli.transfer(workspaceExport, params, { output: onPiece });
  if (head) return head;
  throw new Error('The engine sent an export without its first line');
}
