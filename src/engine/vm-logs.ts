import { open } from 'node:fs/promises';
import { errnoOf } from '../errors.ts';
import { vmPaths, type Layout } from '../state/layout.ts';

export interface LogPart {
  readonly content: Buffer;
  readonly nextOffset: number;
}

/** A part of one of a VM's logs. A log that does not exist yet is empty. */
export async function readVmLog(
  layout: Layout,
  request: {
    readonly id: string;
    readonly source: 'console' | 'vmm';
    readonly offset?: number;
    readonly maxBytes: number;
  },
): Promise<LogPart> {
  const paths = vmPaths(layout, request.id);
  const path = request.source === 'console' ? paths.consoleLog : paths.vmmLog;
  try {
    const file = await open(path, 'r');
    try {
      const { size } = await file.stat();
      const start = Math.min(request.offset ?? Math.max(0, size - request.maxBytes), size);
      const buffer = Buffer.alloc(Math.min(request.maxBytes, size - start));
      const { bytesRead } = await file.read(buffer, 0, buffer.length, start);
      return { content: buffer.subarray(0, bytesRead), nextOffset: start + bytesRead };
    } finally {
      await file.close();
    }
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return { content: Buffer.alloc(0), nextOffset: 0 };
    throw error;
  }
}
