import { afterEach, expect, test, vi } from 'vitest';
import { rootlessRefusal } from '../../src/host/drivers/firecracker/namespace.ts';
import { exec } from '../../src/host/exec.ts';
import { withSystemPrograms } from '../../src/host/system-programs.ts';

afterEach(() => vi.unstubAllEnvs());

test('programs of the system are found last, and each place is there once', () => {
  expect(withSystemPrograms('/opt/bin:/usr/sbin:/bin')).toBe('/opt/bin:/usr/sbin:/bin:/usr/local/sbin:/sbin');
  for (const none of [undefined, ''])
    expect(withSystemPrograms(none)).toBe('/bin:/usr/bin:/usr/local/sbin:/usr/sbin:/sbin');
});

test('what a user’s PATH lacks on Debian is no reason to refuse Firecracker', async ({ skip }) => {
  const refusal = await rootlessRefusal(exec);
  if (refusal !== undefined) skip(refusal);
  vi.stubEnv('PATH', withSystemPrograms('/usr/local/bin:/usr/bin:/bin:/usr/local/games:/usr/games'));
  expect(await rootlessRefusal(exec)).toBeUndefined();
});
