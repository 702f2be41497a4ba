import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

/** Programs for a guest that are the host's, but for the one whose turn it is: that ends the shell it was started by. */
export function mortalPrograms(directory: string): {
  path: string;
  killAt(turn: number): void;
  /** Names of those that a shell has started since `killAt`, in order; the one whose turn it was among them */
  ran(): string[];
} {
  const bin = join(directory, 'bin');
  mkdirSync(bin);
  const ran = join(directory, 'ran');
  const at = join(directory, 'at');
  for (const name of ['tar', 'mv', 'rm', 'rmdir', 'mkdir', 'chmod', 'sync', 'sort', 'git']) {
    const program = execFileSync('sh', ['-c', `command -v ${name}`])
      .toString()
      .trim();
    const script = `#!/bin/sh
read -r parent </proc/$PPID/comm
read -r at <${at}
if [ "$parent" = sh ]; then
  echo ${name} >>${ran}
  count=0
  while read -r _; do count=$((count + 1)); done <${ran}
  [ "$count" != "$((at + 1))" ] || kill -9 $PPID
fi
exec ${program} "$@"
`;
    writeFileSync(join(bin, name), script, { mode: 0o755 });
  }
  const killAt = (turn: number): void => {
    writeFileSync(ran, '');
    writeFileSync(at, `${turn}\n`);
  };
  killAt(-1);
  return {
    path: `${bin}:${process.env['PATH']}`,
    killAt,
    ran: () => readFileSync(ran, 'utf8').split('\n').slice(0, -1),
  };
}
