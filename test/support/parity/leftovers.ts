import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { removeJailOf } from '../../../src/host/drivers/firecracker/remove-jail.ts';
import { until } from '../banger.ts';
import type { Place } from './place.ts';

/** What there may be of VMs when all of them have ended. */
export function describeLeftovers(place: Place): void {
  test('no process is left, and no file but those that were asked for and sockets', async () => {
    // What goes with a VMM goes a moment after it.
    await until('every process of ours has gone', () => place.processes().length === 0);
    const logs = ['console.log', 'vmm.log', 'vmm.log.stderr'].flatMap((name) => [name, `${name}.before`]);
    const known = [...logs, 'console.log.1', 'disk'];
    const sockets = ['vm.control', 'vm.slirp'];
    for (const name of ['shared', 'other', 'panics']) {
      // As whoever forgets a VM does.
      await removeJailOf({ id: 'parity', vmmLog: join(place.root, name, 'vmm.log') });
      const files = readdirSync(join(place.root, name));
      expect(files.filter((file) => ![...known, ...sockets].includes(file))).toEqual([]);
    }
  });
}
