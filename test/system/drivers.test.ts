import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { firecrackerColumn, kvmRefusal, qemuColumn } from '../support/parity/columns.ts';
import { describeDriver } from '../support/parity/list.ts';

/** Every driver that this host has, with real guests; Firecracker where BANGER_TEST_FIRECRACKER names one. */
const program = process.env['BANGER_TEST_FIRECRACKER'];
if (program !== undefined && program !== '' && !existsSync(program))
  throw new Error(`BANGER_TEST_FIRECRACKER names "${program}", which is not there`);

const directory = mkdtempSync(join(tmpdir(), 'banger-kvm-'));
const columns = [
  qemuColumn('tcg'),
  qemuColumn('kvm', await kvmRefusal(directory)),
  await firecrackerColumn(program, await firecrackerRefusal()),
];
rmSync(directory, { recursive: true, force: true });
for (const column of columns) describeDriver(column);

async function firecrackerRefusal(): Promise<string | undefined> {
  if (program === undefined || program === '') return 'BANGER_TEST_FIRECRACKER names none';
  return kvmRefusal(directory, program);
}
