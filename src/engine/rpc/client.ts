/** How a program at the other end of a stream ended, in the terms of a shell's `$?`. */
export interface GuestStreamResult {
  readonly exitCode: number;
}
