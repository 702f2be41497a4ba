import { readFileSync } from 'node:fs';
import * as z from 'zod/mini';
import { hostBootId, type ProcessIdentity } from '../../host/process.ts';

/** What an engine leaves in its state directory for those who do not find it where they look. */
const schema = z.object({
  hostname: z.string(),
  /** Where it listens: another place for whoever has another XDG_RUNTIME_DIR or TMPDIR */
  socket: z.string(),
  process: z.object({ pid: z.int(), startTime: z.string(), bootId: z.string() }),
});
export type EngineNote = z.output<typeof schema>;

/** What the last engine wrote; undefined when it did not, or what is there makes no sense. */
export function readEngineNote(path: string): EngineNote | undefined {
  try {
    const parsed = schema.safeParse(JSON.parse(readFileSync(path, 'utf8')));
    return parsed.success ? parsed.data : undefined;
  } catch {
    return undefined;
  }
}

/** True when it was written on this host since it booted, so that its socket and process mean something here. */
export function isOfThisHost(note: { readonly process: ProcessIdentity }): boolean {
  return note.process.bootId === hostBootId();
}
