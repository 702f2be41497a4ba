import { existsSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import { BangerError } from '../../../src/errors.ts';
import { loopbackForward, type VmmSpec } from '../../../src/host/drivers/driver.ts';
import { until } from '../banger.ts';
import type { Column } from './columns.ts';
import type { Place } from './place.ts';

/** The part of the list that is about starts which come to nothing. */
export function describeRefusals(column: Column, place: Place): void {
  /** What a start throws, after which nothing of it may run. */
  const refused = async (changes: Partial<VmmSpec>, program?: string): Promise<BangerError> => {
    const spec = place.spec('refused', changes);
    try {
      await place.driver(program).start(spec, new AbortController().signal);
    } catch (error) {
      expect(place.driver().find(spec.id)).toBeUndefined();
      await until('nothing of it runs', () => place.processes().length === 0);
      expect(error).toBeInstanceOf(BangerError);
      return error as BangerError;
    }
    throw new Error('it was started');
  };

  describe('a start is refused, and nothing is left,', () => {
    test('when the program is not there', async () => {
      const program = join(place.root, 'nowhere');
      const error = await refused({}, program);
      expect(error).toMatchObject({
        code: 'host_unsupported',
        message: expect.stringContaining(program) as unknown,
      });
    });

    test('with the last words of a VMM that ends at once', async () => {
      const error = await refused({}, place.strangeProgram('ends'));
      expect(error).toMatchObject({
        code: 'command_failed',
        message: expect.stringMatching(/ ended at once: out of luck$/) as unknown,
        hint: expect.stringContaining('banger doctor') as unknown,
      });
    });

    test('as killed when it is killed, whatever it said before', async () => {
      const error = await refused({}, place.strangeProgram('is killed'));
      expect(error).toMatchObject({
        code: 'command_failed',
        message: expect.stringMatching(/ was killed from outside by SIGKILL when it was started$/) as unknown,
      });
    });

    test('in the words of the VMM when it has no such kernel', async () => {
      const error = await refused({ kernel: join(place.root, 'no-kernel') });
      expect(error).toMatchObject({
        code: 'command_failed',
        message: expect.stringMatching(/kernel.*(?:not be|cannot be|No such)/i) as unknown,
      });
    });

    test('for more CPUs than the VMM has', async () => {
      const { cpus, code, words } = column.tooManyCpus;
      expect(await refused({ cpus })).toMatchObject({
        code,
        message: expect.stringMatching(words) as unknown,
      });
    });

    test('for more memory than there is, with what to ask for', async () => {
      const memoryMib = 2 ** 30;
      expect(await refused({ memoryMib })).toMatchObject({
        code: 'host_unsupported',
        message: expect.stringContaining(`cannot give the guest ${memoryMib} MiB`) as unknown,
        hint: expect.stringContaining('--memory') as unknown,
      });
    });

    test('when a port was taken meanwhile, or there is no network with ports', async () => {
      const server = createServer();
      await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
      onTestFinished(() => void server.close());
      const { port } = server.address() as { readonly port: number };
      const user = { forwards: [loopbackForward(port, 22)], reach: 'all' as const };
      const error = await refused({ network: { user } });
      if (column.noUserNetwork === undefined) expect(error.code).toBe('busy');
    });

    test('without KVM, where the VMM emulates nothing', async ({ skip }) => {
      if (place.driver().name === 'qemu') skip('it emulates: that is a column of its own');
      expect(await refused({ acceleration: 'tcg' })).toMatchObject({ code: 'host_unsupported' });
    });

    test('when it is cancelled, before and while', async () => {
      const program = place.strangeProgram('stays');
      for (const isEarly of [true, false]) {
        const spec = place.spec('refused');
        const cancelled = new AbortController();
        if (isEarly) cancelled.abort();
        const starting = place.driver(program).start(spec, cancelled.signal);
        const outcome = expect(starting).rejects.toMatchObject({ code: 'cancelled' });
        expect(isEarly && existsSync(`${program}.runs`)).toBe(false);
        if (!isEarly) await until('it runs', () => existsSync(`${program}.runs`));
        cancelled.abort();
        await outcome;
        expect(place.driver().find(spec.id)).toBeUndefined();
        await until('nothing of it runs', () => place.processes().length === 0);
      }
    });
  });
}
