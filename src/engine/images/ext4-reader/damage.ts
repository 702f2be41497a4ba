import { BangerError } from '../../../errors.ts';

/** A filesystem that cannot be read as ext4, or says things that cannot be. */
export class DamagedFilesystem extends BangerError {
  constructor(what: string) {
    super('invalid_argument', `The filesystem ${what}`, {
      hint: 'Check it with: e2fsck -fn FILE',
    });
  }
}
