import { BangerError } from '../../errors.ts';
import { canFindHost } from '../../host/names.ts';
import type { Vm } from '../../state/vms.ts';
import { setWorkspaceTools } from '../../state/workspaces.ts';
import type { EngineContext } from '../context.ts';
import { Ext4Reader } from '../images/ext4-reader/ext4-reader.ts';
import { findInode } from '../images/ext4-reader/walk.ts';
import { holdImage } from '../images/hold-image.ts';
import { rootfsFile } from '../images/rootfs-file.ts';
import type { Operation } from '../operations.ts';
import { fetchArgv, fetchError, findMise, miseDirectories, noNetwork } from './guest-mise.ts';
import { runToEnd } from './set-up.ts';
import { findToolFiles, type ToolFiles } from './tool-files.ts';

/** How long the host may take to find the address of mise's installer. */
const findHostTimeoutMs = 10_000;

/**
 * The tools that a tree names, if any. Throws, before a VM is made for it, when it is known that they cannot be
 * installed there: the image has no mise, and this host does not even find the address where it would come from.
 */
export async function planTools(
  context: EngineContext,
  { hostPath, image }: { readonly hostPath: string; readonly image: string | undefined },
  operation: Operation,
): Promise<ToolFiles | undefined> {
  const files = await findToolFiles(hostPath);
  if (!files) return undefined;
  operation.enter('Finding image');
  if (await imageHasMise(context, image ?? context.config().image, operation)) return files;
  const host = new URL(context.config().miseInstaller).hostname;
  if (await canFindHost(host, findHostTimeoutMs)) return files;
  throw new BangerError(
    'host_unsupported',
    `"${files.first}" asks for tools, the image has no mise, and it cannot be fetched: this host does not find "${host}"`,
    { hint: 'Go online, use an image that has mise or the tools (--image), or go without: --no-bootstrap' },
  );
}

async function imageHasMise(context: EngineContext, name: string, operation: Operation): Promise<boolean> {
  using held = await holdImage(context, name, operation);
  const reader = await Ext4Reader.open(await rootfsFile(context, held.image));
  try {
    const path = held.image.config.env.find((entry) => entry.startsWith('PATH='))?.slice('PATH='.length);
    for (const directory of [...(path?.split(':') ?? []), ...miseDirectories]) {
      if ((await findInode(reader, `${directory}/mise`))?.kind === 'file') return true;
    }
    return false;
  } finally {
    await reader.close();
  }
}

export interface BootstrapInput {
  readonly vm: Vm;
  readonly guestPath: string;
  readonly files: ToolFiles;
  readonly env: Readonly<Record<string, string>>;
}

/**
 * Installs the tools that the tree in the guest names, with the guest's mise, which is fetched when there is none, and
 * records that programs there are to be run through it. What mise prints is told. The user has agreed to the files.
 */
export async function bootstrapTools(
  context: EngineContext,
  { vm, guestPath, files, env }: BootstrapInput,
  operation: Operation,
): Promise<void> {
  const { signal } = operation;
  const guest = await context.guest(vm, signal);
  const run = async (argv: readonly string[]) =>
    runToEnd(
      await guest.spawn(argv, { workingDirectory: guestPath, env: { MISE_YES: '1', ...env }, signal }),
      operation,
    );

  let mise = await findMise(guest, guestPath, signal);
  // Such as an untracked file that stayed behind.
  if (mise.file === undefined) return;
  if (mise.program === undefined) {
    if (vm.network === 'none') throw noNetwork(files.first);
    operation.enter('Fetching mise');
    const { miseInstaller } = context.config();
    const { code } = await run(fetchArgv(miseInstaller));
    if (code === 0) mise = await findMise(guest, guestPath, signal);
    if (mise.program === undefined) throw fetchError(code, miseInstaller, files.first);
  }
  operation.enter('Installing tools');
  // What only names tools needs no trust. All of the rest was agreed to; older versions of mise do not know `--all`.
  if (files.demanding.length > 0)
    await guest.run([mise.program, 'trust', '--all'], { workingDirectory: guestPath, env, signal });
  const { code } = await run([mise.program, 'install']);
  if (code !== 0) {
    throw new BangerError(
      'command_failed',
      `"${files.first}" asks for tools, and mise install failed with exit code ${code}`,
      { hint: 'What it said is above. To go without the tools: --no-bootstrap' },
    );
  }
  setWorkspaceTools(context.db, { vmId: vm.id, guestPath }, { mise: mise.program, sha256: files.sha256 });
}
