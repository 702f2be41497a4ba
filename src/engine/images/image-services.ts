import { homedir } from 'node:os';
import { threadScript } from '../../host/assets.ts';
import { exec } from '../../host/exec.ts';
import type { Database } from '../../state/database.ts';
import type { Image } from '../../state/images.ts';
import type { ImageContext } from '../context.ts';
import { defaultPace, type Pace } from './registry/download-pace.ts';
import { dockerCredentials, type FindCredentials } from './registry/docker-auth.ts';
import type { ConvertOptions, ConvertResult } from './layers/layers.ts';
import { Leases } from './leases.ts';
import { SharedWork } from './shared-work.ts';
import { hostCertificates } from './registry/host-certificates.ts';
import { createTransport, type Transport } from './registry/transport.ts';

export type ConvertLayers = (options: ConvertOptions) => Promise<ConvertResult>;

/** What work on images does to the world outside; tests bring their own. */
export interface ImageTools {
  readonly convert: ConvertLayers;
  readonly credentials: FindCredentials;
  readonly transport: Transport;
  readonly retryDelayMs: number;
  readonly pace: Pace;
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
  /** Images by id and blobs by digest that work in progress needs */
  readonly leases: { readonly images: Leases; readonly blobs: Leases };
  /** Digest of the content of the embedded image, computed on first use */
  baseDigest?: Promise<string>;
}

const retryDelayMs = 500;

/** Keyed by database, of which an engine has one, so that nobody has to carry them along or end them. */
const services = new WeakMap<Database, ImageServices>();

export function imageServices(context: ImagesContext): ImageServices {
  const known = services.get(context.db);
  if (known) return known;
  const made: ImageServices = {
    tools: { ...productionTools(context), ...context.imageTools },
    pulls: new SharedWork(),
    blobs: new SharedWork(),
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
    credentials: dockerCredentials({ env: process.env, home: homedir(), exec, log: context.log }),
    transport: createTransport({
      env: process.env,
      certificates: hostCertificates(() => context.config().registries),
    }),
    retryDelayMs,
    pace: defaultPace,
  };
}
