import { join } from 'node:path';
import { BangerError } from '../../../errors.ts';
import type { Kernel } from '../../../state/kernels.ts';
import type { ImageContext } from '../../context.ts';
import type { Operation } from '../../operations.ts';
import { parseDownload, shownUrl, type Download, type DownloadUse } from '../downloads/download.ts';
import { imageServices } from '../image-services.ts';
import { withStaging } from '../image-staging.ts';
import { importKernel } from './import-kernel.ts';
import { parseKernelName } from './kernel-name.ts';

export interface KernelPull {
  /** A name of the configuration, or an address */
  readonly source: string;
  /** Address of the package that has the modules, where it is another one */
  readonly modules?: string;
  /** Of the file at `source`, unless the address has it */
  readonly sha256?: string;
  /** Absent: the name of the configuration, or the version */
  readonly name?: string;
}

const use: DownloadUse = {
  pull: 'banger kernel pull',
  useFile: 'banger kernel import FILE',
  maxBytes: 4 * 1024 ** 3,
};

/** Fetches a kernel and makes it ready to boot. What came is used only if it has the hash that was given. */
export async function pullKernel(
  context: ImageContext,
  request: KernelPull,
  operation: Operation,
): Promise<Kernel> {
  const { wanted, name } = planPull(context, request);
  if (name !== undefined) parseKernelName(name);
  const [main, modules] = wanted;
  const { downloads } = imageServices(context).tools;
  return withStaging(context.layout, async (staging) => {
    operation.enter('Downloading kernel');
    const path = join(staging, fileName('kernel', main));
    await downloads.file(main, path, operation);
    const modulesPath = modules && join(staging, fileName('modules', modules));
    if (modules && modulesPath !== undefined) {
      operation.enter('Downloading modules');
      await downloads.file(modules, modulesPath, operation);
    }
    const origin = `${shownUrl(main.url)}#sha256=${main.sha256}`;
    return importKernel(context, { path, modulesPath, name, source: 'pull', origin }, operation);
  });
}

function planPull(
  context: ImageContext,
  { source, modules, sha256, name }: KernelPull,
): { readonly wanted: readonly [Download, Download?]; readonly name: string | undefined } {
  if (source.includes('://')) {
    const second = modules === undefined ? undefined : parseDownload(modules, use);
    return { wanted: [parseDownload(source, use, sha256), second], name };
  }
  const { kernels } = context.config();
  const [url, modulesUrl] = kernels[source] ?? [];
  if (url === undefined) {
    const known = Object.keys(kernels).join(', ');
    throw new BangerError(
      'not_found',
      `The configuration has no kernel "${source}"${known && `, but ${known}`}`,
      {
        hint: 'Give an address: banger kernel pull https://…#sha256=…, or add it to [kernels] in the configuration',
      },
    );
  }
  const second = modules ?? modulesUrl;
  return {
    wanted: [parseDownload(url, use, sha256), second === undefined ? undefined : parseDownload(second, use)],
    name: name ?? source,
  };
}

/** Errors name the file; the address's own last part says more than a name of ours. */
function fileName(prefix: string, { url }: Download): string {
  const last = url.pathname.split('/').at(-1) ?? '';
  return `${prefix}-${last.replace(/[^A-Za-z0-9._+~-]/g, '_').slice(-100)}`;
}
