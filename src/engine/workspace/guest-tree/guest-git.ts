import { Readable } from 'node:stream';
import { BangerError } from '../../../errors.ts';
import type { Assets } from '../../../host/assets.ts';
import type { Guest, GuestOutput } from '../../guest.ts';
import { packedPieces, unpackInto } from '../../packed-pieces.ts';

const toolboxGit = '/run/banger/git/bin/git';

export interface EnsureGitInput {
  readonly assets: Assets;
  readonly guest: Guest;
  /** For messages */
  readonly vmName: string;
  readonly signal: AbortSignal;
}

/** Finds git in a guest and returns its program: the image's own, or ours, which is sent once when there is none. */
export async function ensureGuestGit({ assets, guest, vmName, signal }: EnsureGitInput): Promise<string> {
  for (const program of ['git', toolboxGit]) if (await answers(guest, program, signal)) return program;
  const sent = await guest.runToolbox(['sh', '-c', unpackInto('tar -x -f - -C /')], {
    input: Readable.from(packedPieces(assets.open('git-toolbox.tar.zst'))),
    signal,
  });
  if (sent.exit.code === 0 && (await answers(guest, toolboxGit, signal))) return toolboxGit;
  const words = complaint(sent);
  throw new BangerError('command_failed', `VM "${vmName}" has no git, and ours does not run in it${words}`, {
    hint: `Install git in the VM, or look at: banger vm exec ${vmName} -- ${toolboxGit} --version`,
  });
}

async function answers(guest: Guest, program: string, signal: AbortSignal): Promise<boolean> {
  const { exit, stdout } = await guest.run([program, '--version'], { signal });
  return exit.code === 0 && stdout.toString('latin1').startsWith('git version ');
}

/** `: what a program complained about`, without git's advice, or nothing. A disk that is full has many words follow. */
export function complaint({ stderr }: Pick<GuestOutput, 'stderr'>): string {
  const lines = stderr.trim().split('\n');
  const telling = [/No space left/, /^(?:fatal|error): /].map((words) =>
    lines.find((each) => words.test(each)),
  );
  const line = (telling.find((each) => each !== undefined) ?? lines.at(-1))?.slice(0, 300);
  return line ? `: ${line}` : '';
}
