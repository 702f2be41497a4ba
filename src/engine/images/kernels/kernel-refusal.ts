/**
 * Why a file cannot be used as a kernel or a part of one, in words that follow its name: `is truncated`. The import
 * knows which file it is and turns it into an error for people.
 */
export class KernelRefusal extends Error {
  override readonly name = 'KernelRefusal';
}
