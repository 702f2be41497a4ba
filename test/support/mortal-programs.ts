import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

/** Programs for a guest that are the host's, but for the one whose turn it is: that ends the shell it was started by. */
export function mortalPrograms(directory: string): {
  path: string;
  killAt(turn: number): void;
  turns(): number;
} {
  const bin = join(directory, 'bin');
  mkdirSync(bin);
  const count = join(directory, 'count');
  const at = join(directory, 'at');
  for (const name of ['tar', 'mv', 'rm', 'rmdir', 'mkdir', 'chmod', 'sync', 'sort', 'git']) {
    const program = execFileSync('sh', ['-c', `command -v ${name}`])
      .toString()
      .trim();
    const script = `#!/bin/sh
read -r parent </proc/$PPID/comm
read -r count <${count}
read -r at <${at}
if [ "$parent" = sh ]; then
  echo $((count + 1)) >${count}
  [ "$count" != "$at" ] || kill -9 $PPID
fi
exec ${program} "$@"
`;
    writeFileSync(join(bin, name), script, { mode: 0o755 });
  }
  const killAt = (turn: number): void => {
    writeFileSync(count, '0\n');
    writeFileSync(at, `${turn}\n`);
  };
  killAt(-1);
  return {
    path: `${bin}:${process.env['PATH']}`,
    killAt,
    turns: () => Number(readFileSync(count, 'utf8')),
  };
}
