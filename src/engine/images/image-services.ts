import { threadScript } from '../../host/assets.ts';
import type { Database } from '../../state/database.ts';
import type { Image } from '../../state/images.ts';
import type { ImageContext } from '../context.ts';
import { ConversionTurns } from './conversion/conversion-turns.ts';
import type { Downloads } from './downloads/downloads.ts';
import { downloadsInThread } from './downloads/downloads-in-thread.ts';
import type { ConvertOptions, ConvertResult } from './layers/layers.ts';
import { Leases } from './leases.ts';
import { SharedWork } from './shared-work.ts';

export type ConvertLayers = (options: ConvertOptions) => Promise<ConvertResult>;

/** What work on images does to the world outside; tests bring their own. */
export interface ImageTools {
  readonly convert: ConvertLayers;
  readonly downloads: Downloads;
}

/** The engine's context; `imageTools` replaces parts of what touches the world, for tests. */
export type ImagesContext = ImageContext & { readonly imageTools?: Partial<ImageTools> };

/** What pulls share while an engine runs. */
export interface ImageServices {
  readonly tools: ImageTools;
  /** By stored name */
  readonly pulls: SharedWork<Image>;
  /** By digest; yields the path in the cache */
  readonly blobs: SharedWork<string>;
  readonly conversions: ConversionTurns;
  /** Images by id and blobs by digest that work in progress needs */
  readonly leases: { readonly images: Leases; readonly blobs: Leases };
  /** Digest of the content of the embedded image, computed on first use */
  baseDigest?: Promise<string>;
}

/** Keyed by database, of which an engine has one, so that nobody has to carry them along or end them. */
const services = new WeakMap<Database, ImageServices>();

export function imageServices(context: ImagesContext): ImageServices {
  const known = services.get(context.db);
  if (known) return known;
  const made: ImageServices = {
    tools: { ...productionTools(context), ...context.imageTools },
    pulls: new SharedWork(),
    blobs: new SharedWork(),
    conversions: new ConversionTurns(),
    leases: { images: new Leases(), blobs: new Leases() },
  };
  services.set(context.db, made);
  return made;
}

function productionTools(context: ImagesContext): ImageTools {
  return {
    convert: async (options) => {
      const { convertInThread } = await import('./conversion/convert-in-thread.ts');
      return convertInThread(options, threadScript('conversion'));
    },
    downloads: downloadsInThread({
      script: () => threadScript('download'),
      registries: () => context.config().registries,
      log: context.log,
    }),
  };
}
