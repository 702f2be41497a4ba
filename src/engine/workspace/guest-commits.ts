import { BangerError } from '../../errors.ts';
import type { GuestOutput } from '../guest.ts';
import type { ExportHead, GuestCommit } from '../rpc/workspace-methods.ts';
import { guestGitEnvironment, guestGitSettings } from './changes-script.ts';
import { collectErrors, readChanges, unreadable, type GuestWorkspace } from './guest-changes.ts';

/** More mails than anybody reads. */
const maxCommits = 10_000;
/** A guest could go on for ever: 4 GiB. */
const maxMailBytes = 4 * 1024 ** 3;

type Commits = Required<Pick<ExportHead, 'files' | 'warnings' | 'commits' | 'merges'>>;

/**
 * Hands on the commits that were made in a guest since the tree was sent, as mails for `git am`, the oldest first.
 *
 * Merges have no patch of their own: they are named, and left out. When the commit that was sent is not in the history
 * of the guest's HEAD, which somebody has rewritten, commits count from where both histories part. What is not
 * committed is listed and left out.
 */
export async function readCommits(
  workspace: GuestWorkspace,
  sent: string | undefined,
  onMail: (piece: Buffer) => Promise<void>,
): Promise<Commits> {
  const head = await resolveCommit(workspace, 'HEAD');
  if (sent !== undefined) await requireCommit(workspace, sent);
  const { files, nested } = await readChanges(workspace, { base: head ?? emptyTree(workspace.baseTree) });
  const none = { files: [...files], commits: [], merges: [], warnings: nestedWarnings(nested.length) };
  if (head === undefined || head === sent) return none;

  const range = sent === undefined ? [head] : [head, `^${sent}`];
  const all = await listCommits(workspace, range);
  const commits = all.filter(({ parents }) => parents < 2).map(withoutParents);
  const merges = all.filter(({ parents }) => parents >= 2).map(withoutParents);
  const warnings = [...none.warnings];
  const isRewritten = sent !== undefined && !(await isAncestor(workspace, sent, head));
  if (isRewritten) {
    warnings.push(
      `History was rewritten in the VM: ${sent.slice(0, 12)}, which was sent, is not in it, and the mails begin where both part`,
    );
  }
  if (commits.length > 0) await readMails(workspace, { range, isFromRoot: sent === undefined }, onMail);
  return { ...none, commits, merges, warnings };
}

function nestedWarnings(count: number): string[] {
  return count === 0 ? [] : ['Changes in repositories inside the tree are left out'];
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

type ListedCommit = GuestCommit & { readonly parents: number };

async function listCommits(workspace: GuestWorkspace, range: readonly string[]): Promise<ListedCommit[]> {
  const format = ['-z', '--reverse', '--topo-order', '--format=%H%n%P%n%s', `--max-count=${maxCommits + 1}`];
  const { exit, stdout, stderr } = await git(workspace, ['log', '--no-show-signature', ...format, ...range]);
  if (exit.code !== 0) throw unreadable(workspace, stderr);
  const commits = stdout
    .toString('utf8')
    .split('\0')
    .filter((text) => text !== '')
    .map((text) => {
      const match = /^([0-9a-f]{40,64})\n([0-9a-f ]*)\n([^]*)$/.exec(text);
      if (!match) throw unreadable(workspace, '');
      const [, oid, parents, subject] = match;
      return {
        oid: oid!,
        subject: subject!.slice(0, 1000),
        parents: parents!.split(' ').filter(Boolean).length,
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

function withoutParents({ oid, subject }: ListedCommit): GuestCommit {
  return { oid, subject };
}

/** Whatever the guest configures mails to look like, these are for `git am`. */
const mailFormat = [
  ...['--stdout', '--topo-order', '--subject-prefix=PATCH', '--no-attach', '--no-thread', '--no-signoff'],
  ...['--no-cover-letter', '--no-base', '--no-notes', '--no-to', '--no-cc', '--no-add-header', '-U3'],
  ...['--binary', '--full-index', '--no-renames', '--no-ext-diff', '--no-textconv', '--no-color'],
  ...['--src-prefix=a/', '--dst-prefix=b/'],
];

async function readMails(
  workspace: GuestWorkspace,
  { range, isFromRoot }: { readonly range: readonly string[]; readonly isFromRoot: boolean },
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
      ...root,
      ...range,
    ],
    { env: guestGitEnvironment, signal },
  );
  const stderr = collectErrors(process);
  process.stdio.end();
  let bytes = 0;
  for await (const chunk of process.stdio.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes > maxMailBytes) {
      process.close();
      throw new BangerError(
        'command_failed',
        `The commits in VM "${workspace.vmName}" make mails of more than 4 GiB`,
      );
    }
    await onMail(chunk);
  }
  const exit = await process.exit;
  if (exit.code !== 0) throw unreadable(workspace, stderr());
}
