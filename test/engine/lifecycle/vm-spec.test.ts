import { expect, test } from 'vitest';
import { planVmSize } from '../../../src/engine/lifecycle/vm-spec.ts';
import { parseConfig } from '../../../src/state/config.ts';

const large = { cpus: 64, memoryBytes: 2 ** 36 };
const plan = (cpus: number, config = ''): number =>
  planVmSize({ cpus }, parseConfig(config, 'config.toml'), large).cpus;

test('more CPUs than Firecracker gives a VM are for QEMU, and refused where the configuration insists on it', () => {
  const insisting = '[vmm]\ndriver = "firecracker"\n';
  expect([plan(33), plan(32, insisting)]).toEqual([33, 32]);
  expect(() => plan(33, insisting)).toThrow(
    'Firecracker, on which the configuration insists, gives a VM 32 CPUs at most, not 33',
  );
});
