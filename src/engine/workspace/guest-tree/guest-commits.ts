import { BangerError } from '../../../errors.ts';
import type { GuestOutput } from '../../guest.ts';
import type { ExportHead, GuestCommit } from '../../rpc/workspace-methods.ts';
import { guestGitEnvironment, guestGitSettings } from './changes-script.ts';
import {
  collectErrors,
  readChanges,
  readOutput,
  unreadable,
  type GuestChanges,
  type GuestWorkspace,
} from './guest-changes.ts';
import { readMailedPaths, type MailedCommit } from './mail-check.ts';
import { isMisreadAsMail, misreadError } from './mail-words.ts';
import { submoduleMode } from '../host-tree/index-entries.ts';
import { displayPath, splitRaw } from '../host-tree/raw-path.ts';
import { remarksOn } from '../remarks.ts';

/** More mails than anybody reads. */
const maxCommits = 10_000;
/** A guest could go on for ever: 4 GiB. */
const maxMailBytes = 4 * 1024 ** 3;

interface Commits extends Required<Pick<ExportHead, 'files' | 'warnings' | 'commits' | 'merged'>> {
  /** Those in the mails, with what each changes */
  readonly mailed: readonly MailedCommit[];
}

/**
 * Hands on the commits that were made in a guest since the tree was sent, as mails for `git am`, the oldest first. They
 * make the tree of the guest's HEAD, exactly.
 *
 * Where there are merges, the mails follow the first parents: a merge is one mail with all that it brought, since the
 * commits of both its sides, one after another, need not apply. Those of the other sides are named. When the commit
 * that was sent is not in the history of the guest's HEAD, which somebody has rewritten, commits count from where both
 * histories part. What is not committed is listed and left out, and so are commits that change nothing. Throws where
 * `git am` would make other commits of the mails.
 */
export async function readCommits(
  workspace: GuestWorkspace,
  sent: string | undefined,
  onMail: (piece: Buffer) => Promise<void>,
): Promise<Commits> {
  const head = await resolveCommit(workspace, 'HEAD');
  if (sent !== undefined) await requireCommit(workspace, sent);
  const changes = await readUncommitted(workspace, head);
  const remarks = remarksOn(changes, workspace, 'in the mails');
  const none = { files: [...changes.files], commits: [], merged: [], mailed: [], warnings: remarks };
  if (head === undefined || head === sent) return none;

  const range = sent === undefined ? [head] : [head, `^${sent}`];
  const all = await listCommits(workspace, range);
  const hasMerges = all.some(({ parents }) => parents.length > 1);
  const chain = hasMerges ? await listCommits(workspace, ['--first-parent', ...range]) : all;
  const isEmpty = await emptyCommits(workspace, chain);
  const mailed = chain.filter((commit) => !isEmpty(commit));
  const inChain = new Set(chain.map(({ oid }) => oid));

  const warnings = [...none.warnings];
  const isRewritten = sent !== undefined && !(await isAncestor(workspace, sent, head));
  const from = chain[0]?.parents[0];
  if (isRewritten) {
    warnings.push(
      `History was rewritten in the VM: ${sent.slice(0, 12)}, which was sent, is not in it, and the mails begin where both part`,
    );
  } else if (sent !== undefined && from !== undefined && from !== sent) {
    warnings.push(
      `What was sent, ${sent.slice(0, 12)}, was merged into another branch in the VM: the mails begin at ${from.slice(0, 12)}`,
    );
  }
  for (const { oid, subject } of chain.filter(isEmpty))
    warnings.push(`A commit that changes nothing has no mail: ${oid.slice(0, 12)} ${subject}`);
  const misread = mailed.filter((commit) => commit.isMisread);
  if (misread.length > 0) throw misreadError(workspace, misread);
  if (mailed.length > 0) {
    warnings.push(...(await movedRepositories(workspace, sent ?? emptyTree(workspace.baseTree), head)));
    await readMails(workspace, { range, isFromRoot: sent === undefined, hasMerges }, onMail);
  }
  return {
    ...none,
    mailed: mailed.length === 0 ? [] : await readMailedPaths(workspace, mailed),
    commits: mailed.map(withoutParents),
    merged: all.filter(({ oid }) => !inChain.has(oid)).map(withoutParents),
    warnings,
  };
}

/** What somebody changed in the guest and has not committed: the host's own changes, with which it was sent, are not that. */
async function readUncommitted(workspace: GuestWorkspace, head: string | undefined): Promise<GuestChanges> {
  const base = head ?? emptyTree(workspace.baseTree);
  const changes = await readChanges(workspace, { base });
  if (changes.paths.length === 0 && changes.nested.length === 0) return changes;
  const sinceSent = await readChanges(workspace);
  const isSince = new Set([...sinceSent.paths.map(({ path }) => path), ...sinceSent.nested]);
  return {
    ...changes,
    files: changes.files.filter((_, index) => isSince.has(changes.paths[index]!.path)),
    paths: changes.paths.filter(({ path }) => isSince.has(path)),
    nested: changes.nested.filter((path) => isSince.has(path)),
  };
}

/** Names repositories inside the tree that the mails put on other commits: of those only the names are in a mail. */
async function movedRepositories(workspace: GuestWorkspace, from: string, to: string): Promise<string[]> {
  const format = ['-r', '-z', '--raw', '--no-renames', '--no-abbrev', '--ignore-submodules=none'];
  const { exit, stdout, stderr } = await git(workspace, ['diff-tree', ...format, from, to]);
  if (exit.code !== 0) throw unreadable(workspace, stderr);
  const fields = splitRaw(stdout);
  const warnings: string[] = [];
  for (let at = 0; at + 1 < fields.length; at += 2) {
    const [, mode, , oid] = fields[at]!.split(' ');
    if (mode !== submoduleMode) continue;
    const path = displayPath(fields[at + 1]!);
    warnings.push(
      `The mails put "${path}" on commit ${oid!.slice(0, 12)}, which is in a repository of its own and does not come with them`,
    );
  }
  return warnings;
}

function emptyTree(oid: string): string {
  return oid.length === 40
    ? '4b825dc642cb6eb9a060e54bf8d69288fbee4904'
    : '6ef19b41225c5369f1c104d45d8d85efa9b057b53b14b4b9b939dd74decc5321';
}

async function git(
  { guest, ensureGit, guestPath, signal }: GuestWorkspace,
  args: readonly string[],
): Promise<GuestOutput> {
  const command = [await ensureGit(), '-C', guestPath, ...guestGitSettings, ...args];
  return guest.run(command, { env: guestGitEnvironment, signal });
}

async function resolveCommit(workspace: GuestWorkspace, revision: string): Promise<string | undefined> {
  const { exit, stdout } = await git(workspace, ['rev-parse', '-q', '--verify', `${revision}^{commit}`]);
  const oid = stdout.toString('latin1').trim();
  return exit.code === 0 && /^[0-9a-f]{40,64}$/.test(oid) ? oid : undefined;
}

async function requireCommit(workspace: GuestWorkspace, sent: string): Promise<void> {
  if ((await resolveCommit(workspace, sent)) !== undefined) return;
  throw new BangerError(
    'command_failed',
    `The repository in VM "${workspace.vmName}" does not have the commit ${sent.slice(0, 12)} any more, which was sent`,
    { hint: `Get the changes as a patch: banger workspace export --vm ${workspace.vmName} -o changes.patch` },
  );
}

async function isAncestor(workspace: GuestWorkspace, one: string, other: string): Promise<boolean> {
  const { exit, stderr } = await git(workspace, ['merge-base', '--is-ancestor', one, other]);
  if (exit.code === 0 || exit.code === 1) return exit.code === 0;
  throw unreadable(workspace, stderr);
}

type ListedCommit = GuestCommit & {
  readonly parents: readonly string[];
  readonly tree: string;
  /** A mail of it would be another one */
  readonly isMisread: boolean;
};

async function listCommits(workspace: GuestWorkspace, range: readonly string[]): Promise<ListedCommit[]> {
  const format = [
    '-z',
    '--reverse',
    '--topo-order',
    '--format=%H%n%T%n%P%n%s%n%B',
    `--max-count=${maxCommits + 1}`,
  ];
  const { exit, stdout, stderr } = await git(workspace, ['log', '--no-show-signature', ...format, ...range]);
  if (exit.code !== 0) throw unreadable(workspace, stderr);
  const commits = stdout
    .toString('utf8')
    .split('\0')
    .filter((text) => text !== '')
    .map((text) => {
      const match = /^([0-9a-f]{40,64})\n([0-9a-f]{40,64})\n([0-9a-f ]*)\n([^\n]*)\n([^]*)$/.exec(text);
      if (!match) throw unreadable(workspace, '');
      const [, oid, tree, parents, subject, message] = match;
      return {
        oid: oid!,
        tree: tree!,
        subject: subject!.slice(0, 1000),
        parents: parents!.split(' ').filter(Boolean),
        isMisread: isMisreadAsMail(message!),
      };
    });
  if (commits.length <= maxCommits) return commits;
  throw new BangerError(
    'command_failed',
    `VM "${workspace.vmName}" has more than ${maxCommits} new commits`,
    {
      hint: 'Fetch them instead: banger workspace remote --help',
    },
  );
}

/** Finds commits with the tree of their first parent: git makes no mails of them. */
async function emptyCommits(
  workspace: GuestWorkspace,
  chain: readonly ListedCommit[],
): Promise<(commit: ListedCommit) => boolean> {
  const trees = new Map(chain.map(({ oid, tree }) => [oid, tree]));
  for (const { parents } of chain) {
    const [parent] = parents;
    if (parent === undefined || trees.has(parent)) continue;
    const { stdout } = await git(workspace, ['rev-parse', '-q', '--verify', `${parent}^{tree}`]);
    trees.set(parent, stdout.toString('latin1').trim());
  }
  return ({ tree, parents: [parent] }) =>
    tree === (parent === undefined ? emptyTree(tree) : trees.get(parent));
}

function withoutParents({ oid, subject }: ListedCommit): GuestCommit {
  return { oid, subject };
}

/** Whatever the guest configures mails to look like, these are for `git am`. */
const mailFormat = [
  ...['--stdout', '--topo-order', '--subject-prefix=PATCH', '--no-attach', '--no-thread', '--no-signoff'],
  ...['--no-cover-letter', '--no-base', '--no-notes', '--no-to', '--no-cc', '--no-add-header', '-U3'],
  ...['--binary', '--full-index', '--no-renames', '--no-ext-diff', '--no-textconv', '--no-color'],
  ...['--src-prefix=a/', '--dst-prefix=b/', '--submodule=short'],
];
/** Git leaves merges out unless it is told how many parents there may be. */
const withMerges = ['--max-parents=-1', '--first-parent', '--diff-merges=first-parent'];

async function readMails(
  workspace: GuestWorkspace,
  {
    range,
    isFromRoot,
    hasMerges,
  }: { readonly range: readonly string[]; readonly isFromRoot: boolean; readonly hasMerges: boolean },
  onMail: (piece: Buffer) => Promise<void>,
): Promise<void> {
  const { guest, ensureGit, guestPath, signal } = workspace;
  const root = isFromRoot ? ['--root'] : [];
  const process = await guest.spawn(
    [
      await ensureGit(),
      '-C',
      guestPath,
      ...guestGitSettings,
      'format-patch',
      ...mailFormat,
      ...(hasMerges ? withMerges : []),
      ...root,
      ...range,
    ],
    { env: guestGitEnvironment, signal },
  );
  const stderr = collectErrors(process);
  process.stdio.end();
  let bytes = 0;
  await readOutput(process, signal, async (chunk) => {
    bytes += chunk.length;
    if (bytes > maxMailBytes) throw tooLong(workspace);
    await onMail(chunk);
  });
  const exit = await process.exit;
  if (exit.code !== 0) throw unreadable(workspace, stderr());
}

function tooLong({ vmName }: GuestWorkspace): BangerError {
  return new BangerError('command_failed', `The commits in VM "${vmName}" make mails of more than 4 GiB`, {
    hint: 'Fetch them instead: banger workspace remote --help',
  });
}
