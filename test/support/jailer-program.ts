import { chmodSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

/**
 * Makes a fake jailer in a directory, beside the fake Firecracker there; see fake-jailer.ts. `shown` are directories
 * that what it jails finds inside, in mounts of its own.
 */
export function makeFakeJailer(directory: string): string {
  const program = join(directory, 'jailer');
  const fake = fileURLToPath(import.meta.resolve('./fake-jailer.ts'));
  const shown = ['/usr', '/bin', '/lib', '/lib64', '/proc', resolve(import.meta.dirname, '../..'), directory];
  writeFileSync(
    program,
    `#!/bin/sh
plan=$(FAKE_SHOWN='${shown.join(':')}' '${process.execPath}' '${fake}' "$@") || exit 1
# The jailer closes what it was not meant to have.
exec 3>&- 4>&- 5>&- 6>&-
# Mounts that follow the host's, as the jailer makes them: what is unmounted there is not held on to here.
exec unshare --mount --propagation slave sh -c "$plan"
`,
  );
  chmodSync(program, 0o700);
  return program;
}
