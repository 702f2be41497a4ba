import { BangerError } from '../../../errors.ts';
import { failpoint } from '../../failpoints.ts';
import { unpackInto } from '../../packed-pieces.ts';
import { uncancellable, type Operation } from '../../operations.ts';
import { blobsProgram, makeBlobs } from './made-blobs.ts';
import type { Update } from './assemble-update.ts';
import { changedScript, exitIfChanged, throwIfChanged } from './changed-since.ts';
import { guestGitSettings } from '../guest-tree/changes-script.ts';
import { complaint } from '../guest-tree/guest-git.ts';
import { stream, type GuestPlace } from './send-tree.ts';
import { GuestReferencesError, guardScript } from './reference-guard.ts';
import { splitRaw, type RawPath } from '../host-tree/raw-path.ts';
import { lockScript, placeProgram } from './place-files.ts';
import { updateNames } from './update-names.ts';

/** Git at work in the guest would write its own index over ours. */
const gitAtWork = 75;
/** The disk is full; nothing has happened. */
const noRoom = 74;
/** References are not what the update expects. */
const referencesInTheWay = 77;

const uploadScript = `
cd "$1" && { [ ! -e ${updateNames.part} ] || rm -f ${updateNames.part}; } && ${unpackInto('cat')} >${updateNames.part}
`;

/**
 * Until the archive has its name nothing has happened; from then on it will, whoever is killed: the next to come
 * carries it out. So what it holds is on the disk before.
 */
const carryOutScript = `
trap '' HUP TERM INT PIPE
cd "$1" || exit
shift
${lockScript}
waiting="${updateNames.coming} ${updateNames.going}"
[ ! -e ${updateNames.coming} ] || rm -rf $waiting || exit
if [ -n "$place_program" ] || [ -x ${blobsProgram} ]; then
  if ! mkdir ${updateNames.coming} || ! tar -x -m -f ${updateNames.part} -C ${updateNames.coming} ||
    ! ${makeBlobs(updateNames.coming)}; then
    rm -rf $waiting ${updateNames.part}
    exit ${noRoom}
  fi
fi
sync -f . 2>/dev/null || sync
if [ -e .git/index.lock ]; then exit ${gitAtWork}; fi
`;
const refuseChangedScript = `${changedScript}
newer=$(changed) || exit
${exitIfChanged}
`;
/** Files of the tree are looked at when they are replaced, where that is done by our program. */
const refuseChangedByOldBuild = `
if [ -z "$place_program" ]; then
${refuseChangedScript}
fi
`;
const isOfRepository = (path: RawPath): boolean => path.startsWith('.git/');
/** Nothing was changed when it was looked at: later looks need not go further back. */
const quietScript = `
[ ! -s ${updateNames.looked} ] || mv -f ${updateNames.looked} ${updateNames.quiet} || exit
`;
const tellKeptScript = `
[ ! -s ${updateNames.kept} ] || cat ${updateNames.kept}
`;
/** Builds that did not have what comes wait in a directory have the script in the archive only. */
const findScript = `
script=${updateNames.coming}/${updateNames.script}
if [ ! -f "$script" ]; then
  script=${updateNames.script}
  tar -x -f ${updateNames.archive} "$script" || exit
fi
`;
const replaceScript = `
mv -f ${updateNames.part} ${updateNames.archive} || exit
is_first=yes
${findScript}
set -- . "$@"
. "./$script"
${tellKeptScript}
`;

/**
 * Carries out what was begun, by whomever: that one may still be at it. Prints the token of the last sending that is in
 * place, and what that left as it was.
 */
const finishScript = `
cd "$1" 2>/dev/null || exit 0
shift
${lockScript}
trap '' HUP TERM INT PIPE
rm -f ${updateNames.part}
if [ -f ${updateNames.archive} ]; then
  ${findScript}
  # One of an older engine, for the guest's older program, which knows of no locks.
  if [ -z "$place_program" ] && grep -q place_files "$script"; then place_program=${placeProgram}; fi
  place_program=$place_program sh "$script" . "$@" >&2 || exit
elif [ -e ${updateNames.coming} ]; then rm -rf ${updateNames.coming} ${updateNames.going}
fi
[ ! -f ${updateNames.sent} ] || cat ${updateNames.sent}
${tellKeptScript}
`;

/** How long a guest may take to move files about. */
const carryOutTimeoutMs = 15 * 60_000;

/**
 * Brings a guest's workspace from one state to the next. Files arrive beside it first; `commit` is called when all
 * are there, before any is put in place. From then on it is not cancelled. Returns the paths at which it could not put
 * anything, and what was there stays: `keepBefore` makes that what is recorded.
 *
 * Throws `FileChangedError` when a file changed meanwhile, `GuestChangedError` when one did in the guest, and
 * `GuestReferencesError` when branches there are in the way; the workspace is as it was then.
 */
export async function sendUpdate(
  place: GuestPlace & { readonly git: string },
  update: Update,
  {
    operation,
    commit,
    wasQuiet,
  }: {
    readonly operation: Operation;
    readonly commit: () => Promise<void>;
    /** The guest was found to be as it was sent */
    readonly wasQuiet: boolean;
  },
): Promise<RawPath[]> {
  try {
    await stream(place, { script: uploadScript, shipment: update }, operation);
    await failpoint('update arrived');
    operation.signal.throwIfAborted();
    await commit();
  } catch (error) {
    await place.guest
      .runToolbox(['rm', '-f', `${place.guestPath}/${updateNames.part}`], {
        signal: AbortSignal.timeout(10_000),
      })
      .catch(() => undefined);
    throw error;
  }
  await failpoint('send announced');
  const { signal } = uncancellable(operation);
  const input = Buffer.from(update.replaced.map((path) => `./${path}\0`).join(''), 'latin1');
  const check =
    input.length === 0
      ? ''
      : update.replaced.some(isOfRepository)
        ? refuseChangedScript
        : refuseChangedByOldBuild;
  const guard = guardScript(update.guard, referencesInTheWay);
  const quiet = wasQuiet ? quietScript : '';
  const output = await run(place, `${carryOutScript}${check}${guard}${quiet}${replaceScript}`, {
    signal,
    input,
  });
  const { write, remove } = update.plan;
  return splitRaw(output).filter((path) => write.has(path) || remove.has(path));
}

export interface Finished {
  /** Of what is in place; undefined when there is none */
  readonly token?: string;
  /** Where that left what was there: somebody has changed it since, or it could not be replaced */
  readonly kept: readonly RawPath[];
}

/** Finishes an update that was interrupted. */
export async function finishUpdate(
  place: GuestPlace & { readonly git: string },
  signal: AbortSignal,
): Promise<Finished> {
  const output = await run(place, finishScript, { signal });
  const token = output.toString('latin1', 0, 36);
  if (!/^[0-9a-f-]{36}$/.test(token)) return { kept: [] };
  return { token, kept: splitRaw(output.subarray(37)) };
}

async function run(
  { guest, guestPath, vmName, git }: GuestPlace & { readonly git: string },
  script: string,
  { signal, input }: { readonly signal: AbortSignal; readonly input?: Buffer },
): Promise<Buffer> {
  const output = await guest.runToolbox(['sh', '-c', script, 'banger', guestPath, git, ...guestGitSettings], {
    signal: AbortSignal.any([signal, AbortSignal.timeout(carryOutTimeoutMs)]),
    input,
  });
  if (output.exit.code === 0) return output.stdout;
  throwIfChanged(output);
  if (output.exit.code === referencesInTheWay) {
    throw new GuestReferencesError(output.stdout.toString('utf8').trim());
  }
  if (output.exit.code === gitAtWork) {
    throw new BangerError('busy', `git is at work in "${guestPath}" in VM "${vmName}"`, {
      hint: `Let it finish, or if it was killed: banger vm exec ${vmName} -- rm ${guestPath}/.git/index.lock`,
    });
  }
  if (output.exit.code === noRoom) {
    throw new BangerError(
      'command_failed',
      `VM "${vmName}" cannot hold "${guestPath}"${complaint(output)}; what was there is as it was`,
      { hint: `See how much room there is with: banger vm exec ${vmName} -- df -h` },
    );
  }
  throw new BangerError(
    'command_failed',
    `"${guestPath}" in VM "${vmName}" is partly updated: that stopped${complaint(output)}`,
    {
      hint: `See how much room there is: banger vm exec ${vmName} -- df -h; the next prepare or export goes on`,
    },
  );
}
