import { errorText } from '../../errors.ts';
import { probeDmSnapshot, probeReflink, type MethodVerdict } from '../disks/probe.ts';
import type { Exec } from '../exec.ts';
import { fail, pass, skip, type CheckResult, type Subject } from './check.ts';
import { nearestExisting } from './storage.ts';

export interface DisksInput {
  readonly exec: Exec;
  readonly vmsDirectory: string;
  /** What the configuration asks for */
  readonly wanted: 'auto' | 'qcow2' | 'reflink' | 'dm-snapshot' | 'copy';
}

/** One way to make root disks, and what a disk costs. */
export interface DiskMethodReport {
  readonly method: Exclude<DisksInput['wanted'], 'auto'>;
  readonly works: boolean;
  /** One phrase: what a disk costs, or why there is none */
  readonly detail: string;
}

const subject: Subject = { id: 'disks', title: 'Disks' };

/** Which ways there are to make root disks, found out by doing it where they will be. */
export async function checkDisks(
  input: DisksInput,
): Promise<{ readonly check: CheckResult; readonly methods: readonly DiskMethodReport[] }> {
  let methods: readonly DiskMethodReport[];
  try {
    methods = await tryMethods(input);
  } catch (error) {
    // Space and rights of the directory have checks of their own.
    return { check: skip(subject, `could not be tried: ${errorText(error)}`), methods: [] };
  }
  const wanted = methods.find(({ method }) => method === input.wanted);
  const evidence = methods
    .map(({ method, works, detail }) => (works ? `${method} (${detail})` : `no ${method} (${detail})`))
    .join(', ');
  if (wanted && !wanted.works) {
    const fix = 'Let banger choose: set method = "auto" under [disk] in the configuration';
    return {
      check: fail(subject, `disks cannot be made by ${wanted.method}: ${wanted.detail}`, fix),
      methods,
    };
  }
  const asked = wanted ? `by ${wanted.method}, as the configuration says; there are: ` : '';
  return { check: pass(subject, `${asked}${evidence}`), methods };
}

async function tryMethods({ exec, vmsDirectory }: DisksInput): Promise<readonly DiskMethodReport[]> {
  const directory = await nearestExisting(vmsDirectory);
  const [reflink, snapshot] = await Promise.all([probeReflink(directory), probeDmSnapshot(exec, directory)]);
  const report = (
    method: DiskMethodReport['method'],
    { works, reason }: MethodVerdict,
    cost: string,
  ): DiskMethodReport => ({ method, works, detail: works ? cost : reason });
  const always: MethodVerdict = { works: true, reason: '' };
  return [
    report('qcow2', always, 'nothing is copied'),
    report('reflink', reflink, 'nothing is copied'),
    report('copy', always, "the image's data is copied"),
    report('dm-snapshot', snapshot, "nothing is copied, all of a disk's room is taken"),
  ];
}
