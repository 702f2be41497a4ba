import { BangerError } from '../../errors.ts';
import type { Vm } from '../../state/vms.ts';
import { setWorkspaceTools } from '../../state/workspaces.ts';
import type { EngineContext } from '../context.ts';
import { Ext4Reader } from '../images/ext4-reader/ext4-reader.ts';
import { findInode } from '../images/ext4-reader/walk.ts';
import { holdImage } from '../images/hold-image.ts';
import { rootfsFile } from '../images/rootfs-file.ts';
import type { Operation } from '../operations.ts';
import { fetchArgv, findMise, installerError, miseDirectories, whyNotFetched } from './guest-mise.ts';
import { whyCutOff, whyNoMise, type Reach } from './mise-source.ts';
import { writePlainFiles } from './plain-tools.ts';
import { runToEnd } from './set-up.ts';
import { findToolFiles, type ToolFiles } from './tool-files.ts';

/**
 * The tools that a tree names, if any and if its VM can have them. When it is known before a VM is made that it cannot,
 * that is said, and nothing is left to install: the network is missing, not the will.
 */
export async function planTools(
  context: EngineContext,
  tree: { readonly hostPath: string; readonly image: string | undefined; readonly reach: Reach },
  operation: Operation,
): Promise<ToolFiles | undefined> {
  const files = await findToolFiles(tree.hostPath);
  if (!files) return undefined;
  operation.enter('Finding image');
  if (await imageHasMise(context, tree.image ?? context.config().image, operation)) return files;
  const why = await whyNoMise(context, tree.reach);
  if (why === undefined) return files;
  tellGoingWithout(operation, files.first, `the image has no mise, and ${why}`);
  return undefined;
}

function tellGoingWithout(operation: Operation, file: string, why: string): void {
  operation.note?.(
    `Warning: "${file}" asks for tools, and the VM goes without them: ${why}. To have them: an image with mise or the tools (--image); to go without in any case: --no-bootstrap`,
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
 * records that programs there are to be run with them. What mise prints is told. The user has agreed to the files.
 * Where the network or the programs are missing that it takes, that is told, and no error.
 */
export async function bootstrapTools(
  context: EngineContext,
  { vm, guestPath, files, env }: BootstrapInput,
  operation: Operation,
): Promise<void> {
  const { signal } = operation;
  const guest = await context.guest(vm, signal);
  const cutOff = whyCutOff(vm);
  // Of what it can have without a network mise takes all; it would try for long to have the rest.
  const own = { MISE_YES: '1', ...(cutOff !== undefined && { MISE_OFFLINE: '1' }) };
  const run = async (argv: readonly string[], workingDirectory = guestPath) =>
    runToEnd(
      await guest.spawn(argv, { workingDirectory, env: { ...own, ...env }, signal, hangsUp: true }),
      operation,
    );

  let mise = await findMise(guest, guestPath, signal);
  // Such as an untracked file that stayed behind.
  if (mise.file === undefined) return;
  if (mise.program === undefined) {
    const why = await whyNoMise(context, vm);
    if (why !== undefined)
      return tellGoingWithout(operation, files.first, `the image has no mise, and ${why}`);
    operation.enter('Fetching mise');
    const { miseInstaller } = context.config();
    const { code } = await run(fetchArgv(miseInstaller));
    if (code === 0) mise = await findMise(guest, guestPath, signal);
    if (mise.program === undefined) {
      const whyNot = whyNotFetched(code, miseInstaller);
      if (whyNot === undefined) throw installerError(files.first);
      return tellGoingWithout(operation, files.first, `the image has no mise, and ${whyNot}`);
    }
  }
  operation.enter('Installing tools');
  // All of what does more than name tools was agreed to; older versions of mise do not know `--all`.
  const isAgreed = files.demanding.length > 0;
  const directory = isAgreed ? guestPath : await writePlainFiles(guest, { guestPath, files, signal });
  if (isAgreed)
    await guest.run([mise.program, 'trust', '--all'], { workingDirectory: guestPath, env, signal });
  const { code } = await run([mise.program, 'install'], directory);
  if (code !== 0) {
    if (cutOff !== undefined)
      return tellGoingWithout(operation, files.first, `mise could not install them, and ${cutOff}`);
    throw new BangerError(
      'command_failed',
      `"${files.first}" asks for tools, and mise install failed with exit code ${code}`,
      { hint: 'What it said is above. To go without the tools: --no-bootstrap' },
    );
  }
  setWorkspaceTools(
    context.db,
    { vmId: vm.id, guestPath },
    { mise: mise.program, sha256: files.sha256, directory },
  );
}
