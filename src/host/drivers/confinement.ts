import { readFileSync, readlinkSync, statSync } from 'node:fs';
import { processName } from './vmm-process.ts';

/** What a VMM that runs is kept by, and what it is not, each in a few words. */
export interface Confinement {
  readonly has: readonly string[];
  readonly lacks: readonly string[];
}

/** What of a process the kernel tells us: texts of files in its directory in /proc; absent where we may not look. */
export interface ProcessFacts {
  readonly status: string;
  readonly limits: string;
  readonly cgroup: string;
  /** Kinds of its namespaces that are not ours */
  readonly namespaces: readonly string[];
  /** It sees another directory as the topmost one than we do */
  readonly hasOwnRoot: boolean;
}

/** Whose facts those are, and as whom we ask. */
interface Asked {
  readonly id: string;
  readonly ourUid: number;
}

/**
 * What a VM's VMM is kept from, by what the kernel says of its process now and not by what it was told: the same words
 * for every VMM. Undefined when it has gone.
 */
export function describeConfinement(pid: number, id: string): Confinement | undefined {
  const facts = readFacts(pid);
  return facts && confinementOf(facts, { id, ourUid: process.getuid!() });
}

export function confinementOf(facts: ProcessFacts, { id, ourUid }: Asked): Confinement {
  const has: string[] = [];
  const lacks: string[] = [];
  const tell = (isSo: boolean, word: string): void => void (isSo ? has : lacks).push(word);
  const field = (name: string): string =>
    new RegExp(`^${name}:\\s*(\\S+)`, 'm').exec(facts.status)?.[1] ?? '';
  const uid = Number(field('Uid'));
  if (uid === ourUid) lacks.push('a user of its own');
  else has.push(`user ${uid}`);
  tell(facts.hasOwnRoot, 'a jail');
  tell(facts.namespaces.includes('network'), 'a network namespace');
  // A user of its own is more.
  if (uid === ourUid) tell(facts.namespaces.includes('user'), 'a user namespace');
  tell(/^0+$/.test(field('CapEff')), 'the loss of all capabilities');
  tell(field('NoNewPrivs') === '1', 'no_new_privs');
  tell(field('Seccomp') === '2', 'seccomp');
  const isInGroup = facts.cgroup.split('\n').some((line) => line.endsWith(`/banger/${processName(id)}`));
  tell(isInGroup, 'a control group with limits');
  tell(/^Max core file size +0 /m.test(facts.limits), 'a ban on core files');
  return { has, lacks };
}

const namespaceFiles: Readonly<Record<string, string>> = { net: 'network', user: 'user', mnt: 'mount' };

function readFacts(pid: number): ProcessFacts | undefined {
  const read = (name: string): string => readFileSync(`/proc/${pid}/${name}`, 'utf8');
  try {
    const namespaces = Object.entries(namespaceFiles).flatMap(([file, kind]) =>
      readlinkSync(`/proc/${pid}/ns/${file}`) === readlinkSync(`/proc/self/ns/${file}`) ? [] : [kind],
    );
    const [its, ours] = [statSync(`/proc/${pid}/root/`), statSync('/')];
    const hasOwnRoot = its.dev !== ours.dev || its.ino !== ours.ino;
    return { status: read('status'), limits: read('limits'), cgroup: read('cgroup'), namespaces, hasOwnRoot };
  } catch {
    // It has gone, or made itself a secret: nothing is claimed of it.
    return undefined;
  }
}
