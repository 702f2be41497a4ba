import { copyFileSync, mkdirSync } from 'node:fs';
import { basename, join } from 'node:path';
import { exec } from '../../src/host/exec.ts';
import type { Banger } from './banger.ts';

/**
 * Runs a script in a guest whose image has no perl, with this host's, until the VM stops. It can be made to listen on
 * whatever a socket can be. Scripts have no modules.
 */
export async function startPerl(
  banger: Banger,
  vm: string,
  [script, ...args]: readonly [string, ...string[]],
): Promise<void> {
  const name = basename(script, '.pl');
  const kit = join(banger.home, name);
  mkdirSync(kit);
  const { stdout } = await exec(['ldd', '/usr/bin/perl']);
  const libraries = [...stdout.toString().matchAll(/=> (\S+)/g)].map(([, path]) => path!);
  // The guest's own C library is loaded before these are looked for.
  const others = libraries.filter((path) => !path.includes('/libc.so'));
  for (const file of ['/usr/bin/perl', script, ...others]) copyFileSync(file, join(kit, basename(file)));
  await banger.ok(['vm', 'cp', kit, `${vm}:/${name}`]);
  const words = ['./perl', basename(script), ...args].join(' ');
  const run = `cd /${name} && exec ${words} >log 2>&1 </dev/null`;
  await banger.guest(vm, `export LD_LIBRARY_PATH=/${name}; setsid sh -c '${run}' & sleep 1`);
}
