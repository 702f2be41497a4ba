import { BangerError } from '../../../errors.ts';
import type { GuestCommit } from '../../rpc/workspace-methods.ts';
import type { GuestWorkspace } from './guest-changes.ts';

/**
 * Whether `git am` would take a line of a commit's message for something else: for the end of the message and the
 * beginning of a patch, for the first line of another mail, or for a header. What follows it could be a patch of files
 * that no commit has.
 */
export function isMisreadAsMail(message: string): boolean {
  // The first paragraph is the subject, in one line. Git takes a line of spaces for an empty one.
  const text = message.replace(/^(?:[ \t\r]*\n)+/, '');
  const end = text.search(/\n[ \t\r]*\n/);
  return end >= 0 && misread.some((pattern) => pattern.test(text.slice(end)));
}

/** See `patchbreak` and `check_inbody_header` in git's mailinfo.c, `is_from_line` in its mailsplit, `is_blank_line` in pretty. */
const misread = [
  /^diff -/m,
  /^Index: /m,
  /^---(?: \S|\s*$)/m,
  /^From .*:\d\d/m,
  // At the beginning alone.
  /^\s*(?:(?:From|Subject|Date):|>From\s|\[PATCH\]\s)/i,
];

export function misreadError(
  { vmName, guestPath }: Pick<GuestWorkspace, 'vmName' | 'guestPath'>,
  commits: readonly GuestCommit[],
): BangerError {
  const names = commits.slice(0, 3).map(({ oid, subject }) => `${oid.slice(0, 12)} ${subject}`);
  const more = commits.length > names.length ? `, and ${commits.length - names.length} more` : '';
  return new BangerError(
    'invalid_state',
    `git am would take a line of a message for the beginning of a patch, a mail or a header: ${names.join(', ')}${more}`,
    { hint: `Fetch the commits instead: git fetch banger::${vmName}${guestPath}` },
  );
}
