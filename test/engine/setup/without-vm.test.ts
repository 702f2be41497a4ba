import { expect, test } from 'vitest';
import { BangerError } from '../../../src/errors.ts';
import { withoutVm } from '../../../src/engine/setup/without-vm.ts';

const wayOut = 'Keep one with: banger vm run --keep .';

test('a hint that names a VM which is gone gives way to one that works', () => {
  const lost = new BangerError('guest_unreachable', 'It does not answer', {
    hint: 'What the guest says: banger vm logs swift-otter',
  });
  expect(withoutVm(lost, { name: 'swift-otter' }, wayOut)).toMatchObject({
    code: 'guest_unreachable',
    message: 'It does not answer',
    hint: `That VM was deleted again. ${wayOut}`,
  });
});

test.each([
  new BangerError('command_failed', 'A setup command failed', { hint: 'Leave it out: --no-template' }),
  new BangerError('command_failed', 'Something of "swift-otter" failed'),
  new Error('swift-otter'),
])('what does not lead through the VM stays as it is', (error) => {
  expect(withoutVm(error, { name: 'swift-otter' }, wayOut)).toBe(error);
});
