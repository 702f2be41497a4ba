import { rm, stat } from 'node:fs/promises';
import { basename } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { BangerError, errnoOf } from '../../errors.ts';
import { applyHostNetwork, removeHostNetwork } from '../network/apply.ts';
import { nameFiles } from '../name-resolution.ts';
import { ensureConfigDirectory, removeConfigDirectory } from './config-directory.ts';
import type { HostSetup } from './host-setup.ts';
import type { SetupPlaces } from './places.ts';
import { isThere, writePublicFile } from './public-files.ts';
import { setupFiles, unitName, type SetupPlan } from './plan-setup.ts';
import type { SetupTools } from './setup-state.ts';
import { shellWord } from '../shell-quote.ts';

/**
 * Does what was planned. Doing it again changes nothing. VMs run without names as well: returns why whoever answers for
 * names could not be told, if so.
 */
export async function applySetup(plan: SetupPlan, { exec, places }: SetupTools): Promise<string | undefined> {
  await requireRootsOwn(places.configDirectory);
  await ensureConfigDirectory(places.configDirectory);
  // Before files: a network that cannot be made is not to come back at boot.
  await applyHostNetwork(plan.network, { exec, forwarding: places.forwarding });
  for (const { path, content } of plan.files) await writePublicFile(path, content);
  for (const argv of enableCommands(plan.unit, places)) await exec(argv);
  await forgetNames(plan.setup.owner.uid, plan.names.files, { exec, places });
  return applyNames(plan.names, { exec, places });
}

/** A link that was made just now may not be known to systemd-resolved yet. */
const resolverAttempts = 3;
const resolverPauseMs = 500;

async function applyNames(
  { files, apply }: SetupPlan['names'],
  { exec }: SetupTools,
): Promise<string | undefined> {
  for (const { path, text } of files) await writePublicFile(path, text);
  for (let attempt = 1; ; attempt++) {
    try {
      for (const argv of apply) await exec(argv);
      return undefined;
    } catch (error) {
      if (!(error instanceof BangerError)) throw error;
      if (attempt === resolverAttempts) return error.message;
      await sleep(resolverPauseMs);
    }
  }
}

/** Takes away what name servers were told before and are not to keep, and returns the files that went. */
async function forgetNames(
  uid: number,
  kept: SetupPlan['names']['files'],
  { exec, places }: SetupTools,
): Promise<string[]> {
  const removed: string[] = [];
  for (const { path, forget } of await findStaleNames(uid, kept, places)) {
    await rm(path);
    removed.push(path);
    // One that does not run has nothing to forget.
    await exec(forget).catch((error: unknown) => {
      if (!(error instanceof BangerError)) throw error;
    });
  }
  return removed;
}

/** Files by which another program than now was told of names, with what makes it forget them. */
export async function findStaleNames(
  uid: number,
  kept: SetupPlan['names']['files'],
  { systemRoot }: Pick<SetupPlaces, 'systemRoot'>,
): Promise<ReturnType<typeof nameFiles>> {
  const others = nameFiles(uid, systemRoot).filter(({ path }) => !kept.some((file) => file.path === path));
  const areThere = await Promise.all(others.map(({ path }) => isThere(path)));
  return others.filter((_, index) => areThere[index]);
}

/** Commands by which systemd comes to know a unit, and brings it up at boot. */
export function enableCommands(unit: string, { hasSystemd }: SetupPlaces): [string, ...string[]][] {
  if (!hasSystemd) return [];
  return [
    ['systemctl', 'daemon-reload'],
    ['systemctl', 'enable', unit],
  ];
}

/** Others' files there would be read as ours. */
async function requireRootsOwn(directory: string): Promise<void> {
  const found = await stat(directory).catch((error: unknown) => {
    if (errnoOf(error) === 'ENOENT') return undefined;
    throw error;
  });
  if (!found || (found.uid === process.getuid!() && (found.mode & 0o022) === 0)) return;
  throw new BangerError('host_unsupported', `"${directory}" can be written to by others than root`, {
    hint: `Give it to root: sudo chown root: ${shellWord(directory)} && sudo chmod go-w ${shellWord(directory)}`,
  });
}

/**
 * Takes away all that a setup for a user has made, also one that was cut short. Nothing there counts as taken away.
 * Returns the files that it removed.
 */
export async function removeSetup(
  owner: HostSetup['owner'],
  { exec, places }: SetupTools,
): Promise<readonly string[]> {
  const files = setupFiles(owner.uid, places);
  const removed: string[] = [];
  const remove = async (path: string): Promise<void> => {
    if (!(await isThere(path))) return;
    await rm(path);
    removed.push(path);
  };
  // First: engines are not to use what goes.
  await remove(files.setup);
  if (places.hasSystemd && (await isThere(files.unit)))
    await exec(['systemctl', 'disable', '--now', unitName(owner.uid)]);
  await remove(files.unit);
  if (places.hasSystemd && removed.some((path) => basename(path) === unitName(owner.uid))) {
    await exec(['systemctl', 'daemon-reload']);
    // One that failed at boot would stay listed. 1: it did not, and is unknown by now.
    await exec(['systemctl', 'reset-failed', unitName(owner.uid)], { okExitCodes: [1] });
  }
  // What systemd-resolved was told goes with the links.
  removed.push(...(await forgetNames(owner.uid, [], { exec, places })));
  await removeHostNetwork(owner, { exec, forwarding: places.forwarding });
  await remove(files.rules);
  await remove(files.links);
  removed.push(...(await removeConfigDirectory(places.configDirectory)));
  return removed;
}
