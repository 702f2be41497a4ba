import { BangerError } from '../../../errors.ts';

/** Name of the kernel that is inside banger. */
export const embeddedName = 'embedded';
/** Leads to whatever kernel is the default. */
export const defaultName = 'default';

/** Checks a name for a new kernel: what a version of Linux may look like, and not one of our own. */
export function parseKernelName(name: string): string {
  if (name === embeddedName || name === defaultName) {
    const meaning = name === embeddedName ? 'the kernel inside banger' : 'the kernel that set-default chose';
    throw new BangerError('invalid_argument', `"${name}" means ${meaning}`, {
      hint: 'Choose another name: --name NAME',
    });
  }
  if (/^[A-Za-z0-9][A-Za-z0-9._+~-]{0,127}$/.test(name)) return name;
  throw new BangerError('invalid_argument', `"${name.slice(0, 150)}" cannot be the name of a kernel`, {
    hint: 'Use letters, digits and . _ + ~ -, beginning with a letter or digit: --name NAME',
  });
}
