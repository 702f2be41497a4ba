import { expect } from 'vitest';
import { imagePull } from '../../src/engine/rpc/image-methods.ts';
import type { CrashLab } from './crash-lab.ts';
import { acting, type Scenario } from './crash-matrix.ts';
import type { HostWorld } from './host-world.ts';
import { putImage, type FakeRegistry } from './registry.ts';
import { file, tarOf } from './tar-builder.ts';

export function pulling(lab: CrashLab, world: HostWorld, registry: FakeRegistry): Scenario {
  let count = 0;
  const name = (): string => `${registry.host}/test:v${count}`;
  return {
    name: 'image pull',
    // Another image each time: one that is here already would not be fetched.
    ready: async () => {
      count++;
      const layer = tarOf([file('etc/version', `${count}`), file('blob', 'x'.repeat(300_000))]);
      putImage(registry, 'test', { tag: `v${count}`, layers: [layer.toString('latin1')] });
    },
    act: (arm) => acting(lab, imagePull, { reference: name() })(arm),
    outcome: async () => {
      const was = world.imageNames().includes(name()) ? 'the image is there' : 'there is no image';
      const kept = world.partialBlobs().length > 0 ? ', a part of its download is kept' : '';
      await lab.call(imagePull, { reference: name() });
      expect(world.partialBlobs()).toEqual([]);
      return `${was}${kept}`;
    },
  };
}
