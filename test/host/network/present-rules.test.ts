import { expect, test } from 'vitest';
import { BangerError } from '../../../src/errors.ts';
import type { Exec } from '../../../src/host/exec.ts';
import { networkOwner, type HostNetwork } from '../../../src/host/network/plan.ts';
import { findMissingRules } from '../../../src/host/network/present-rules.ts';
import { ruleset } from '../../../src/host/network/ruleset.ts';

const network: HostNetwork = {
  owner: { ...networkOwner('/state', 0), tag: '1a2b' },
  bridges: [{ number: 1, subnet: '10.213.1.0/24', isShared: true, guests: ['10.213.1.2'], spare: [] }],
};

const missingIn = (text: string) => {
  const exec: Exec = (argv) => {
    const [, , , family, name] = argv;
    const table = text.split(/^(?=table )/m).find((part) => part.startsWith(`table ${family} ${name} {`));
    if (!table) throw new BangerError('command_failed', 'nft: Error: No such file or directory');
    return Promise.resolve({ exitCode: 0, stdout: Buffer.from(table), stderr: '' });
  };
  return findMissingRules(exec, network);
};

test('tables that are gone, and chains and sets that lack something, are missed; what packets fill is not', async () => {
  const whole = ruleset(network);
  expect(await missingIn(whole)).toEqual([]);
  expect(await missingIn('')).toEqual(['bridge banger_1a2b', 'inet banger_1a2b']);
  expect(await missingIn(whole.replace(/^ *ip hdrlength.*\n/m, ''))).toEqual(['bridge banger_1a2b']);
  expect(await missingIn(whole.replace(/^ *elements = \{ 10\.213\.1\.2 \}\n/m, ''))).toEqual([
    'inet banger_1a2b',
  ]);
  const asked = '    timeout 10s\n    elements = { 10.213.1.2 limit rate over 200/second expires 9s }\n';
  expect(await missingIn(whole.replace('    timeout 10s\n', asked))).toEqual([]);
});
