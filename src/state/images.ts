import { BangerError } from '../errors.ts';
import type { Database } from './database.ts';

/** The part of an OCI image config that says how its programs expect to be run. */
export interface ImageConfig {
  /** `NAME=value`, as in the OCI config */
  readonly env: readonly string[];
  readonly workingDirectory?: string;
  readonly user?: string;
  readonly entrypoint?: readonly string[];
  readonly command?: readonly string[];
}

/** A file of the user's, and how it is told that it is still the same. */
export interface ExternalFile {
  readonly path: string;
  readonly sizeBytes: number;
  /** Nanoseconds since 1970, in decimal */
  readonly mtimeNs: string;
  /** Inode number, in decimal */
  readonly inode: string;
}

/** How it is told that a filesystem of ours is still what was published, besides its size. */
export interface RootfsMark {
  /** Nanoseconds since 1970, in decimal */
  readonly mtimeNs: string;
  /** Inode number, in decimal */
  readonly inode: string;
  /** Hex SHA-256 over parts of the content; see rootfs-mark.ts */
  readonly sample: string;
}

export interface Image {
  readonly id: string;
  readonly source: 'pull' | 'import' | 'embedded' | 'bundle' | 'register';
  /** Where its filesystem is, when that is a file of the user's; absent when it is ours */
  readonly external?: ExternalFile;
  /** Absent for a file of the user's, and for images of earlier versions until they are used */
  readonly rootfs?: RootfsMark;
  /** Of the manifest that it first came with */
  readonly digest?: string;
  readonly sizeBytes: number;
  readonly contentBytes: number;
  readonly config: ImageConfig;
  readonly layers: readonly string[];
  readonly osRelease: Readonly<Record<string, string>>;
  readonly hasShell: boolean;
  readonly createdAt: string;
  /** Names that lead to it, sorted */
  readonly names: readonly string[];
  /** Of the manifest that each was pulled with, for names that were */
  readonly digests: Readonly<Record<string, string>>;
}

interface ImageRow {
  readonly id: string;
  readonly source: Image['source'];
  readonly digest: string | null;
  readonly sizeBytes: number;
  readonly contentBytes: number;
  readonly config: string;
  readonly layers: string;
  readonly osRelease: string;
  readonly hasShell: number;
  readonly createdAt: string;
  readonly external: string | null;
  readonly rootfs: string | null;
  readonly names: string;
  readonly digests: string;
}

const select = `
  SELECT id, source, digest, size_bytes AS sizeBytes, content_bytes AS contentBytes, config, layers,
         os_release AS osRelease, has_shell AS hasShell, created_at AS createdAt, external, rootfs,
         (SELECT json_group_array(name) FROM (SELECT name FROM image_names WHERE image_id = images.id ORDER BY name)) AS names,
         (SELECT json_group_object(name, digest) FROM image_names WHERE image_id = images.id AND digest IS NOT NULL) AS digests
  FROM images`;

/** Records an image, or does nothing when its content is known already. */
export function insertImage(db: Database, image: Omit<Image, 'names' | 'digests'>): void {
  db.prepare(
    `INSERT INTO images (id, source, digest, size_bytes, content_bytes, config, layers, os_release, has_shell, created_at,
                         external, rootfs)
     VALUES (@id, @source, @digest, @sizeBytes, @contentBytes, @config, @layers, @osRelease, @hasShell, @createdAt,
             @external, @rootfs)
     ON CONFLICT (id) DO NOTHING`,
  ).run({
    ...image,
    digest: image.digest ?? null,
    config: JSON.stringify(image.config),
    layers: JSON.stringify(image.layers),
    osRelease: JSON.stringify(image.osRelease),
    hasShell: image.hasShell ? 1 : 0,
    external: image.external ? JSON.stringify(image.external) : null,
    rootfs: image.rootfs ? JSON.stringify(image.rootfs) : null,
  });
}

/** Records how an image's filesystem is known from now on. */
export function setImageRootfs(
  db: Database,
  id: string,
  { sizeBytes, rootfs }: Pick<Image, 'sizeBytes' | 'rootfs'>,
): void {
  db.prepare('UPDATE images SET size_bytes = ?, rootfs = ? WHERE id = ?').run(
    sizeBytes,
    rootfs ? JSON.stringify(rootfs) : null,
    id,
  );
}

/**
 * Points a name at an image. A name that pointed elsewhere moves, as a tag does. `digest` is what it was pulled with;
 * without one, it keeps what it was pulled with as a name of this image.
 */
export function setImageName(db: Database, name: string, imageId: string, digest?: string): void {
  db.prepare(
    `INSERT INTO image_names (name, image_id, digest) VALUES (@name, @imageId, @digest)
     ON CONFLICT (name) DO UPDATE SET
       digest = CASE WHEN image_id = @imageId THEN coalesce(@digest, digest) ELSE @digest END,
       image_id = @imageId`,
  ).run({ name, imageId, digest: digest ?? null });
}

/** Records that an image is to be had from a registry, which may not be how it came. */
export function setImagePulled(
  db: Database,
  id: string,
  pulled: Required<Pick<Image, 'digest' | 'layers'>>,
): void {
  db.prepare(
    `UPDATE images SET digest = @digest, layers = @layers, source = 'pull' WHERE id = @id AND source = 'import'`,
  ).run({ id, digest: pulled.digest, layers: JSON.stringify(pulled.layers) });
}

/** Gives one name of an image another spelling. A name that the new one had before leads here now. */
export function renameImageName(db: Database, from: string, to: string, digest?: string): void {
  db.transaction(() => {
    const row = db
      .prepare<[string], { imageId: string }>('SELECT image_id AS imageId FROM image_names WHERE name = ?')
      .get(from);
    if (!row) return;
    deleteImageName(db, from);
    setImageName(db, to, row.imageId, digest);
  })();
}

/** Points every name of one image at another. */
export function moveImageNames(db: Database, fromId: string, toId: string): void {
  db.prepare('UPDATE image_names SET image_id = ? WHERE image_id = ?').run(toId, fromId);
}

export function deleteImageName(db: Database, name: string): void {
  db.prepare('DELETE FROM image_names WHERE name = ?').run(name);
}

/** Forgets an image and its names. The database refuses while a VM uses it. */
export function deleteImageRow(db: Database, id: string): void {
  db.transaction(() => {
    db.prepare('DELETE FROM image_names WHERE image_id = ?').run(id);
    db.prepare('DELETE FROM images WHERE id = ?').run(id);
  })();
}

export function findImageByName(db: Database, name: string): Image | undefined {
  const row = db
    .prepare<[string], ImageRow>(`${select} WHERE id = (SELECT image_id FROM image_names WHERE name = ?)`)
    .get(name);
  return row && toImage(row);
}

export function findImageById(db: Database, id: string): Image | undefined {
  const row = db.prepare<[string], ImageRow>(`${select} WHERE id = ?`).get(id);
  return row && toImage(row);
}

/** Images whose id starts with these hex digits. */
export function findImagesByPrefix(db: Database, prefix: string): Image[] {
  return db
    .prepare<[number, string], ImageRow>(`${select} WHERE substr(id, 1, ?) = ?`)
    .all(prefix.length, prefix)
    .map(toImage);
}

export function getImage(db: Database, id: string): Image {
  const image = findImageById(db, id);
  if (image) return image;
  throw new BangerError('not_found', `There is no image with id "${id}"`, {
    hint: 'List images with: banger image list',
  });
}

export function listImages(db: Database): Image[] {
  return db.prepare<[], ImageRow>(`${select} ORDER BY created_at, id`).all().map(toImage);
}

/** Names of the VMs made from an image, sorted. */
export function vmsOfImage(db: Database, imageId: string): string[] {
  return db
    .prepare<[string], { name: string }>('SELECT name FROM vms WHERE image_id = ? ORDER BY name')
    .all(imageId)
    .map((row) => row.name);
}

function toImage(row: ImageRow): Image {
  return {
    ...row,
    digest: row.digest ?? undefined,
    config: JSON.parse(row.config) as ImageConfig,
    layers: JSON.parse(row.layers) as string[],
    osRelease: JSON.parse(row.osRelease) as Record<string, string>,
    hasShell: row.hasShell === 1,
    external: row.external === null ? undefined : (JSON.parse(row.external) as ExternalFile),
    rootfs: row.rootfs === null ? undefined : (JSON.parse(row.rootfs) as RootfsMark),
    names: JSON.parse(row.names) as string[],
    digests: JSON.parse(row.digests) as Record<string, string>,
  };
}
