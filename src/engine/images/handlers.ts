import { BangerError } from '../../errors.ts';
import { listImages } from '../../state/images.ts';
import type { ImageContext } from '../context.ts';
import type { Operation } from '../operations.ts';
import type {
  imageCatalog,
  imageDelete,
  imageImport,
  imageList,
  imagePull,
  imageRename,
  imageShow,
  imageTag,
  ImageDetails,
  ImageView,
} from '../rpc/image-methods.ts';
import type { ParsedParams, ResultOf } from '../rpc/method.ts';
import { ensureBaseImage } from './base-image.ts';
import { expandShortName, wholeCatalog } from './catalog.ts';
import { deleteImage } from './delete-image.ts';
import { baseName, findAsWritten, getImageByReference, namePulled } from './find-image.ts';
import { toImageDetails, toImageView } from './image-views.ts';
import { importImage } from './import-image.ts';
import { pullImage } from './pull-image.ts';
import { renameImage, tagImage } from './tag-image.ts';

export async function pullImageRoute(
  context: ImageContext,
  { reference }: ParsedParams<typeof imagePull>,
  operation: Operation,
): Promise<ImageView> {
  // `base` is ours wherever it is written: pulling it means having the one of this binary.
  const image =
    reference === baseName
      ? await ensureBaseImage(context, operation)
      : await pullImage(context, reference, operation);
  return toImageView(context.db, image);
}

export async function importImageRoute(
  context: ImageContext,
  params: ParsedParams<typeof imageImport>,
  operation: Operation,
): Promise<ImageView> {
  return toImageView(context.db, await importImage(context, params, operation));
}

export async function listImagesRoute(
  { db }: ImageContext,
  _params: ParsedParams<typeof imageList>,
): Promise<ImageView[]> {
  return listImages(db).map((image) => toImageView(db, image));
}

export async function showImageRoute(
  context: ImageContext,
  { reference }: ParsedParams<typeof imageShow>,
): Promise<ImageDetails> {
  const { catalog } = context.config();
  const image = getImageByReference(context.db, reference, catalog);
  return toImageDetails(context, image, namePulled(image, reference, catalog));
}

export async function tagImageRoute(
  context: ImageContext,
  params: ParsedParams<typeof imageTag>,
  { signal }: Operation,
): Promise<ImageView> {
  return toImageView(context.db, await tagImage(context, params, signal));
}

export async function renameImageRoute(
  context: ImageContext,
  params: ParsedParams<typeof imageRename>,
  { signal }: Operation,
): Promise<ImageView> {
  return toImageView(context.db, await renameImage(context, params, signal));
}

export function imageCatalogRoute({ db, config }: ImageContext): ResultOf<typeof imageCatalog> {
  const own = config().catalog;
  return wholeCatalog(own).map((entry) => {
    try {
      const reference = expandShortName(entry.name, own) ?? entry.reference;
      return { ...entry, isPresent: findAsWritten(db, reference) !== undefined };
    } catch (error) {
      // One that is wrong is where people look for what is wrong: the others are listed, too.
      if (!(error instanceof BangerError)) throw error;
      return { ...entry, description: error.message, isPresent: false };
    }
  });
}

export async function deleteImageRoute(
  context: ImageContext,
  { reference }: ParsedParams<typeof imageDelete>,
  operation: Operation,
): Promise<ResultOf<typeof imageDelete>> {
  return deleteImage(context, reference, operation.signal);
}
