import type { EngineContext } from './context.ts';
import {
  deleteImageRoute,
  imageCatalogRoute,
  importImageRoute,
  listImagesRoute,
  pullImageRoute,
  renameImageRoute,
  showImageRoute,
  tagImageRoute,
} from './images/handlers.ts';
import { toImageView } from './images/image-views.ts';
import { pruneImages } from './images/prune-images.ts';
import {
  imageCatalog,
  imageDelete,
  imageExport,
  imageExportLayout,
  imageImport,
  imageImportStream,
  imageList,
  imagePromote,
  imagePull,
  imageRegister,
  imageRename,
  imageShow,
  imageTag,
} from './rpc/image-methods.ts';
import { imageBundle, imagePullBundle } from './rpc/image-bundle-methods.ts';
import { imagePrune } from './rpc/image-prune-methods.ts';
import { route, streamRoute, type Route } from './rpc/server.ts';

/** Every method about images, one entry each. */
export function imageRoutes(context: EngineContext): Route[] {
  return [
    route(imagePull, (params, operation) => pullImageRoute(context, params, operation)),
    route(imageImport, (params, operation) => importImageRoute(context, params, operation)),
    streamRoute(imageImportStream, async (params, operation, stream) => {
      const { importStream } = await import('./images/import-stream.ts');
      return toImageView(context.db, await importStream(context, params, { operation, stream }));
    }),
    streamRoute(imageExport, async (params, operation, stream) => {
      const { exportImage } = await import('./images/export/export-image.ts');
      return exportImage(context, params, { operation, stream });
    }),
    route(imageExportLayout, async (params, operation) => {
      const { exportLayout } = await import('./images/export/export-image.ts');
      return exportLayout(context, params, operation);
    }),
    streamRoute(imageBundle, async ({ reference }, operation, stream) => {
      const { bundleImage } = await import('./images/bundle/bundle-image.ts');
      return bundleImage(context, reference, { operation, stream });
    }),
    route(imagePullBundle, async (params, operation) => {
      const { pullBundle } = await import('./images/bundle/pull-bundle.ts');
      return toImageView(context.db, await pullBundle(context, params, operation));
    }),
    route(imageRegister, async (params, operation) => {
      const { registerImage } = await import('./images/register-image.ts');
      return toImageView(context.db, await registerImage(context, params, operation));
    }),
    route(imagePromote, async ({ reference }, operation) => {
      const { promoteImage } = await import('./images/promote-image.ts');
      return toImageView(context.db, await promoteImage(context, reference, operation));
    }),
    route(imageTag, (params, operation) => tagImageRoute(context, params, operation)),
    route(imageRename, (params, operation) => renameImageRoute(context, params, operation)),
    route(imageList, (params) => listImagesRoute(context, params)),
    route(imageShow, (params) => showImageRoute(context, params)),
    route(imageCatalog, () => imageCatalogRoute(context)),
    route(imagePrune, (params, operation) => pruneImages(context, params, operation)),
    route(imageDelete, (params, operation) => deleteImageRoute(context, params, operation)),
  ];
}
