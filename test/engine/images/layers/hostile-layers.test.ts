import { existsSync, readdirSync } from 'node:fs';
import path from 'node:path';
import { expect, test } from 'vitest';
import { hostileLayers } from '../../../support/hostile-layers/all.ts';
import { convert, expectClean, tempDirectory } from './image-inspector.ts';

const quick = hostileLayers.filter(({ isSlow }) => !isSlow);

test.each(quick.filter(({ error }) => error))(
  'refused, with layer and entry named: $title',
  async (layer) => {
    using temp = tempDirectory();
    const layers = [...(layer.below ? [layer.below] : []), layer.bytes()];
    const more = layer.limits && { limits: layer.limits };
    const error: unknown = await convert(temp.path, layers, more).catch((reason: unknown) => reason);
    expect(error).toMatchObject({ code: 'invalid_argument', message: expect.stringMatching(layer.error!) });
    expect((error as Error).message).toMatch(/[lL]ayer "test"/);
    if (layer.entry !== undefined) expect((error as Error).message).toContain(`"${layer.entry}`);
    expect(existsSync(path.join(temp.path, 'rootfs.ext4'))).toBe(false);
    expect(readdirSync(path.join(temp.path, 'work'))).toEqual([]);
  },
);

test.each(quick.filter(({ error }) => !error))('accepted, and harmless: $title', async (layer) => {
  using temp = tempDirectory();
  const { image } = await convert(temp.path, [...(layer.below ? [layer.below] : []), layer.bytes()]);
  expectClean(image);
  expect(existsSync('/tmp/banger-escaped')).toBe(false);
});
