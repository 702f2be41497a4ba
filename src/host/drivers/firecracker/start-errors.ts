import { readFile } from 'node:fs/promises';
import { BangerError } from '../../../errors.ts';
import { killedError, type StartDeath } from '../start-death.ts';
import { lastWords, memoryError, standardErrorPath } from '../vmm-process.ts';
import type { FirecrackerSpec } from './machine.ts';

/** What Firecracker's refusals mean for whoever wanted a VM. */
export function explainStart(error: unknown, spec: FirecrackerSpec): unknown {
  if (!(error instanceof BangerError) || error.code !== 'command_failed') return error;
  const words = error.message;
  if (/KVM/.test(words) && /os error (?:2|13)\b/.test(words)) {
    return new BangerError('host_unsupported', words, {
      hint: 'See how to get at KVM with: banger doctor',
      cause: error,
    });
  }
  if (/os error 12\b|Cannot allocate memory/.test(words)) return memoryError(spec.memoryMib, words);
  if (/os error 16\b|Resource busy/.test(words)) return new BangerError('busy', words, { cause: error });
  return error;
}

/** For one that has ended: its log says more than the socket that it left, or those that were to start it do. */
export async function startError(
  program: string,
  spec: FirecrackerSpec,
  { cause, death }: { readonly cause: unknown; readonly death: StartDeath },
): Promise<unknown> {
  if (cause instanceof BangerError && (cause.code === 'cancelled' || cause.code === 'host_unsupported'))
    return cause;
  const killed = await killedError('Firecracker', spec.memoryMib, death);
  if (killed) return killed;
  const lastLine = (await lastWordsOf(spec.vmmLog)) || (await lastWordsOf(standardErrorPath(spec.vmmLog)));
  return new BangerError('command_failed', `Firecracker ended at once: ${lastLine || 'it said nothing'}`, {
    hint: `Check the host with: banger doctor (Firecracker is "${program}")`,
    cause,
  });
}

/** Empty where there is none. */
async function lastWordsOf(path: string): Promise<string> {
  return lastWords(await readFile(path, 'utf8').catch(() => ''));
}
