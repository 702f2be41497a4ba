import fc from 'fast-check';
import { expect, test } from 'vitest';
import {
  encodeFrame,
  FrameReader,
  frameTypes,
  maxFrameBytes,
  type FrameType,
} from '../../../src/engine/rpc/frames.ts';

test('frames survive being cut anywhere', () => {
  const types = Object.keys(frameTypes) as FrameType[];
  const frame = fc.record({ type: fc.constantFrom(...types), payload: fc.uint8Array({ maxLength: 300 }) });
  fc.assert(
    fc.property(fc.array(frame), fc.integer({ min: 1, max: 50 }), (frames, step) => {
      const bytes = Buffer.concat(frames.map((one) => encodeFrame(one.type, Buffer.from(one.payload))));
      const reader = new FrameReader();
      const read = [];
      for (let at = 0; at < bytes.length; at += step)
        read.push(...reader.push(bytes.subarray(at, at + step)));
      expect(read.map((one) => [one.type, [...one.payload]])).toEqual(
        frames.map((one) => [one.type, [...one.payload]]),
      );
    }),
  );
});

test('data longer than a frame is split', () => {
  const frames = new FrameReader().push(encodeFrame('stdout', Buffer.alloc(maxFrameBytes + 1)));
  expect(frames.map((one) => one.payload.length)).toEqual([maxFrameBytes, 1]);
});

test.each([
  ['an unknown type', Buffer.from([99, 0, 0, 0, 0])],
  ['a length of 4 GiB', Buffer.from([1, 0xff, 0xff, 0xff, 0xff])],
])('%s is refused before anything is allocated for it', (_, bytes) => {
  expect(() => new FrameReader().push(bytes)).toThrow('out of step');
});
