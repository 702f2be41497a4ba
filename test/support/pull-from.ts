import type { Credentials } from '../../src/engine/images/registry/docker-auth.ts';
import { pullImage } from '../../src/engine/images/pull-image.ts';
import type { Image } from '../../src/state/images.ts';
import { imageContext, recordedOperation } from './image-context.ts';
import type { FakeRegistry } from './registry.ts';

/** Pulls `name`, "app" if not said, in a state directory of its own; with the lines that were logged. */
export async function pullFrom(
  registry: FakeRegistry,
  options: { credentials?: Credentials; config?: string; name?: string } = {},
): Promise<Image & { logged: string[] }> {
  using context = imageContext({
    tools: { credentials: () => Promise.resolve(options.credentials) },
    config: options.config,
  });
  const reference = `${registry.host}/${options.name ?? 'app'}`;
  const image = await pullImage(context, reference, recordedOperation());
  return { ...image, logged: [...context.logged] };
}
