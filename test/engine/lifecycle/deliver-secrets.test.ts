import { inspect } from 'node:util';
import { expect, test } from 'vitest';
import type { Guest } from '../../../src/engine/guest.ts';
import { deliverSecrets } from '../../../src/engine/lifecycle/deliver-secrets.ts';
import { OperationRegistry } from '../../../src/engine/operations.ts';
import { createFakeGuest } from '../../support/fake-guest.ts';

const secret = 'hunter2-correct-horse';

/** A guest whose programs do this instead. */
function guestThat(script: string): Guest {
  const { guest } = createFakeGuest();
  return { ...guest, runToolbox: (_argv, options) => guest.runToolbox(['sh', '-c', script], options) };
}

test.each([
  ['to its error output', "tr -d '\\0' >&2; exit 1"],
  ['in another spelling', "tr -d '\\0' | tr a-z A-Z >&2; exit 1"],
  ['to its output', 'cat; exit 1'],
])(
  'A36: a guest that says a secret %s and fails does not bring it into errors or operations',
  async (_, script) => {
    const told: unknown[] = [];
    const operations = new OperationRegistry(undefined, (view) => void told.push(view));
    const { signal } = new AbortController();
    const error = await operations
      .run({ kind: 'vm.exec', subject: 'web', signal }, ({ signal }) =>
        deliverSecrets(guestThat(script), { TOKEN: secret }, signal),
      )
      .catch((error: unknown) => error);
    expect(error).toMatchObject({
      code: 'command_failed',
      message: 'The guest did not take secrets: its program ended with exit code 1',
      hint: expect.stringContaining('df /run') as string,
    });
    const all = inspect([error, told, operations.list()], { depth: 20, showHidden: true });
    expect(operations.list()).toMatchObject([{ state: 'failed' }]);
    expect(all).toContain('did not take secrets');
    for (const trace of [secret, secret.toUpperCase()]) expect(all).not.toContain(trace);
  },
);

test('a guest whose program was killed is told of so', async () => {
  const { signal } = new AbortController();
  await expect(deliverSecrets(guestThat('kill -9 $$'), { TOKEN: secret }, signal)).rejects.toThrow(
    'its program was ended by SIGKILL',
  );
});
