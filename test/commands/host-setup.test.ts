import { expect, test } from 'vitest';
import type { Cli } from '../../src/commands/cli.ts';
import { hostSetupCommand } from '../../src/commands/host-setup.ts';

test('each --network names one more', () => {
  const read = (...argv: string[]) => {
    const command = hostSetupCommand({} as Cli, {});
    command.parseOptions(argv);
    return command.opts();
  };
  expect(read('--network', 'lab', '--network', 'dev')).toEqual({ network: ['lab', 'dev'] });
  expect(read('--taps', '2')).toEqual({ taps: 2 });
});
