import { expect, test } from 'vitest';
import { BangerError } from '../../../src/errors.ts';
import { NoRoomError } from '../../../src/engine/workspace/sending/check-room.ts';
import { withoutVm } from '../../../src/engine/setup/without-vm.ts';

const path = '/src/tree';

test('a hint that names a VM which is gone gives way to one that works', () => {
  const lost = new BangerError('guest_unreachable', 'It does not answer', {
    hint: 'What the guest says: banger vm logs swift-otter',
  });
  expect(withoutVm(lost, { name: 'swift-otter' }, path)).toMatchObject({
    code: 'guest_unreachable',
    message: 'It does not answer',
    hint: 'That VM was deleted again. To keep one, and look around in it: banger vm run --keep /src/tree',
  });
});

test('one that had no room for the tree is told with the size that another one needs', () => {
  const full = new NoRoomError('No room', { hint: 'banger vm set swift-otter --disk 12G', diskSize: '12G' });
  expect(withoutVm(full, { name: 'swift-otter' }, path)).toMatchObject({
    hint: 'That VM was deleted again. Give one a larger disk: banger vm run --keep --disk 12G /src/tree',
  });
});

test.each([
  new BangerError('command_failed', 'A setup command failed', { hint: 'Leave it out: --no-template' }),
  new BangerError('command_failed', 'Something of "swift-otter" failed'),
  new Error('swift-otter'),
])('what does not lead through the VM stays as it is', (error) => {
  expect(withoutVm(error, { name: 'swift-otter' }, path)).toBe(error);
});
