import { PassThrough } from 'node:stream';
import { expect, test } from 'vitest';
import type { Cli, ListOptions } from '../../src/commands/cli.ts';
import { CliRuntime, type CliInput } from '../../src/commands/cli-runtime.ts';
import { runProgram } from '../support/run-program.ts';

interface Called {
  readonly calls: [method: string, params: unknown, subject: string | undefined][];
  readonly said: string[];
  readonly printed: string[];
  readonly failures: unknown[];
}

/** An engine with VMs "web" and "db", whose ids are 1 and 2. */
async function run(...words: string[]): Promise<Called> {
  const done: Called = { calls: [], said: [], printed: [], failures: [] };
  const ids: Record<string, string> = { web: '1', db: '2' };
  const cli = {
    json: false,
    say: (line: string) => void done.said.push(line),
    print: () => undefined,
    call: async (method: { name: string }, params: unknown, subject?: string) => {
      if (method.name === 'vm.select') {
        return (params as { references: string[] }).references.map((name) =>
          ids[name] === undefined
            ? { error: { code: 'not_found', message: `There is no VM named "${name}"`, hint: 'List them' } }
            : { id: ids[name], name },
        );
      }
      done.calls.push([method.name, params, subject]);
      const { vm } = params as { vm: string };
      const ports = [
        { protocol: 'tcp', address: '0.0.0.0', port: 80, published: [], process: 'httpd', pid: 7 },
      ];
      return { id: vm, name: vm === '1' ? 'web' : 'db', flushed: true, ports };
    },
    forEach: async <T>(
      names: readonly string[],
      action: (name: string) => Promise<T>,
      text: (value: T) => string,
      { allText }: ListOptions<T> = {},
    ) => {
      const settled = await Promise.allSettled(names.map(action));
      const values = settled.filter((one) => one.status === 'fulfilled').map((one) => one.value);
      done.failures.push(
        ...settled.filter((one) => one.status === 'rejected').map((one) => one.reason as unknown),
      );
      done.printed.push(...(allText ? [allText(values)] : values.map(text)));
    },
  } as unknown as Cli;
  await runProgram(cli, words);
  return done;
}

test.each(['start', 'stop', 'restart', 'kill', 'pause', 'resume', 'wait', 'delete'])(
  'vm %s of several says whose progress it is, and of one leaves that out',
  async (verb) => {
    const several = await run('vm', verb, 'web', 'db');
    expect(several.calls.map(([, params, subject]) => [(params as { vm: string }).vm, subject])).toEqual([
      ['1', 'web'],
      ['2', 'db'],
    ]);
    expect((await run('vm', verb, 'web')).calls[0]![2]).toBeUndefined();
  },
);

test('what listens in several VMs is one table', async () => {
  const { printed } = await run('vm', 'ports', 'web', 'db');
  expect(printed).toHaveLength(1);
  expect(printed[0]!.split('\n').map((line) => line.split(/\s+/)[0])).toEqual(['VM', 'web', 'db']);
});

test.each(['-f', '--force'])('vm delete %s is content when a VM is not there, and says so', async (flag) => {
  const { calls, said, failures } = await run('vm', 'rm', flag, 'web', 'wep');
  expect(calls).toEqual([['vm.delete', { vm: '1' }, undefined]]);
  expect(said).toEqual(['There is no VM named "wep"']);
  expect(failures).toEqual([]);
  expect((await run('vm', 'rm', flag, 'wep')).calls).toEqual([]);
});

test('without --force it is a failure, and the others are deleted', async () => {
  const { calls, failures } = await run('vm', 'rm', 'web', 'wep');
  expect(calls).toHaveLength(1);
  expect(failures).toMatchObject([{ code: 'not_found', hint: 'List them' }]);
});

function runtime(json: boolean): { readonly cli: CliRuntime; readonly text: () => string } {
  const stderr = new PassThrough();
  const streams = { stdin: new PassThrough(), stdout: new PassThrough(), stderr };
  const cli = new CliRuntime({
    connect: {},
    streams,
    env: {},
    cwd: '/',
    onInterrupt: () => () => undefined,
  } as unknown as CliInput);
  cli.json = json;
  return { cli, text: () => String(stderr.read()) };
}

test('a line of progress begins with the VM; under --json that is a key of its own', () => {
  const plain = runtime(false);
  plain.cli.showProgress({ stage: 'Booting guest' }, 'web');
  plain.cli.showProgress({ stage: 'Booting guest' }, 'db');
  plain.cli.showProgress({ stage: 'Powering off' });
  expect(plain.text()).toBe('web: Booting guest\ndb: Booting guest\nPowering off\n');
  const json = runtime(true);
  json.cli.showProgress({ stage: 'Booting guest' }, 'web');
  expect(JSON.parse(json.text())).toEqual({ stage: 'Booting guest', subject: 'web' });
});
