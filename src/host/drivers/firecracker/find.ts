import { existsSync } from 'node:fs';
import { commandLine, findProcessesByArguments, identifyProcess } from '../../process.ts';
import type { FoundVmm } from '../driver.ts';
import { readOwnRights, vmUser } from '../qemu-confinement.ts';
import { isOurs, processName } from '../vmm-process.ts';

/** The live Firecracker of a VM. By itself, so that looking for one loads nothing of what talks to it. */
export function findFirecracker(id: string): FoundVmm | undefined {
  const words = ['--id', processName(id)];
  for (const pid of findProcessesByArguments(words)) {
    const identity = identifyProcess(pid);
    const argv = identity && commandLine(pid);
    if (!argv || !isOurs(pid, vmUser(id, readOwnRights()))) continue;
    // Somebody's editor or grep may have been given the same words, but not in this place: they come first, after
    // the program or, for one that is a script, after its interpreter's. Between them and its socket, a jailer has
    // words of its own, as has the Firecracker that it becomes. A script that the configuration names may have put
    // others before them: then its socket tells.
    const place = argv.indexOf(processName(id)) - 1;
    const socketAt = argv.indexOf('--api-sock', place) + 1;
    if (socketAt === 0 || (place > 2 && !existsSync(argv[socketAt] ?? ''))) continue;
    return { driver: 'firecracker', process: identity, forwards: [], acceleration: 'kvm' };
  }
  return undefined;
}
