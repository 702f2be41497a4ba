import { expect, test } from 'vitest';
import { HostRoom } from '../../../../src/engine/images/layers/host-room.ts';
import { tempDirectory } from './image-inspector.ts';

test('a file that the host has no room for is told before it is written', async () => {
  using temp = tempDirectory();
  await expect(new HostRoom(temp.path).reach(2 ** 60)).rejects.toMatchObject({
    code: 'host_unsupported',
    message: expect.stringMatching(
      new RegExp(
        `^There is no room for the image: it takes 1099511627776 MiB or more, and [0-9]+ MiB are free at "${temp.path}"$`,
      ),
    ) as string,
  });
});

test('the host is asked only when a file has grown a good deal', async () => {
  using temp = tempDirectory();
  const room = new HostRoom(temp.path);
  await room.reach(1);
  expect(room.reach(2 ** 20)).toBeUndefined();
  const more = room.reach(2 ** 30);
  expect(more).toBeInstanceOf(Promise);
  // Whether there is room for a GiB is not for this test to say.
  await more?.catch(() => undefined);
});
