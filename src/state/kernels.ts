import { BangerError } from '../errors.ts';
import type { Database } from './database.ts';

/** A kernel that was imported or pulled. The one inside banger has no row. */
export interface Kernel {
  readonly id: string;
  /** As `uname -r` says */
  readonly version: string;
  readonly source: 'import' | 'pull';
  /** File or URL that it came from */
  readonly origin: string;
  /** `elf`: the uncompressed kernel boots; `bzimage`: only the compressed one does */
  readonly format: 'elf' | 'bzimage';
  readonly imageBytes: number;
  readonly modulesBytes: number;
  /** Names of the modules that guests load, in that order */
  readonly modules: readonly string[];
  /** What its guests cannot do */
  readonly warnings: readonly string[];
  /** It finds devices by words on its command line, too; absent: it was imported before that was looked for */
  readonly readsDeviceWords?: boolean;
  readonly createdAt: string;
  /** Names that lead to it, sorted */
  readonly names: readonly string[];
}

interface KernelRow extends Omit<Kernel, 'modules' | 'warnings' | 'names' | 'readsDeviceWords'> {
  readonly readsDeviceWords: number | null;
  readonly modules: string;
  readonly warnings: string;
  readonly names: string;
}

const select = `
  SELECT id, version, source, origin, format, image_bytes AS imageBytes, modules_bytes AS modulesBytes, modules,
         warnings, reads_device_words AS readsDeviceWords, created_at AS createdAt,
         (SELECT json_group_array(name) FROM (SELECT name FROM kernel_names WHERE kernel_id = kernels.id ORDER BY name)) AS names
  FROM kernels`;

/**
 * Records a kernel under a name; one whose content is known already only gets the name. Of two that want one name
 * the database takes the first; the other gets `already_exists`, and nothing of it stays.
 */
export function insertKernel(db: Database, kernel: Omit<Kernel, 'names'>, name: string): Kernel {
  return db.transaction(() => {
    const holder = findKernelByName(db, name);
    if (holder && holder.id !== kernel.id) {
      throw new BangerError(
        'already_exists',
        `There is already a kernel named "${name}", of Linux ${holder.version}`,
        {
          hint: `Choose another name with --name, or delete it with: banger kernel delete ${name}`,
        },
      );
    }
    db.prepare(
      `INSERT INTO kernels (id, version, source, origin, format, image_bytes, modules_bytes, modules, warnings,
                            reads_device_words, created_at)
       VALUES (@id, @version, @source, @origin, @format, @imageBytes, @modulesBytes, @modules, @warnings,
               @readsDeviceWords, @createdAt)
       ON CONFLICT (id) DO UPDATE SET reads_device_words = excluded.reads_device_words`,
    ).run({
      ...kernel,
      modules: JSON.stringify(kernel.modules),
      warnings: JSON.stringify(kernel.warnings),
      readsDeviceWords: kernel.readsDeviceWords === undefined ? null : Number(kernel.readsDeviceWords),
    });
    db.prepare('INSERT INTO kernel_names (name, kernel_id) VALUES (?, ?) ON CONFLICT (name) DO NOTHING').run(
      name,
      kernel.id,
    );
    return getKernel(db, kernel.id);
  })();
}

export function deleteKernelName(db: Database, name: string): void {
  db.prepare('DELETE FROM kernel_names WHERE name = ?').run(name);
}

/** Forgets a kernel and its names. The database refuses while a VM uses it, or while it is the default. */
export function deleteKernelRow(db: Database, id: string): void {
  db.transaction(() => {
    db.prepare('DELETE FROM kernel_names WHERE kernel_id = ?').run(id);
    db.prepare('DELETE FROM kernels WHERE id = ?').run(id);
  })();
}

export function findKernelByName(db: Database, name: string): Kernel | undefined {
  const row = db
    .prepare<[string], KernelRow>(`${select} WHERE id = (SELECT kernel_id FROM kernel_names WHERE name = ?)`)
    .get(name);
  return row && toKernel(row);
}

export function findKernel(db: Database, id: string): Kernel | undefined {
  const row = db.prepare<[string], KernelRow>(`${select} WHERE id = ?`).get(id);
  return row && toKernel(row);
}

export function getKernel(db: Database, id: string): Kernel {
  const kernel = findKernel(db, id);
  if (kernel) return kernel;
  throw new BangerError('not_found', `There is no kernel with id "${id}"`, {
    hint: 'List kernels with: banger kernel list',
  });
}

/** Kernels whose id starts with these hex digits. */
export function findKernelsByPrefix(db: Database, prefix: string): Kernel[] {
  return db
    .prepare<[number, string], KernelRow>(`${select} WHERE substr(id, 1, ?) = ?`)
    .all(prefix.length, prefix)
    .map(toKernel);
}

/** Oldest first. */
export function listKernels(db: Database): Kernel[] {
  return db.prepare<[], KernelRow>(`${select} ORDER BY created_at, id`).all().map(toKernel);
}

/** Names of the VMs that boot a kernel, sorted; without an id, of those that boot the embedded one. */
export function vmsOfKernel(db: Database, kernelId: string | undefined): string[] {
  return db
    .prepare<[string | null], { name: string }>('SELECT name FROM vms WHERE kernel_id IS ? ORDER BY name')
    .all(kernelId ?? null)
    .map((row) => row.name);
}

/** The kernel of VMs that name none; undefined for the embedded one. */
export function findDefaultKernel(db: Database): Kernel | undefined {
  const row = db.prepare<[], KernelRow>(`${select} WHERE id = (SELECT kernel_id FROM default_kernel)`).get();
  return row && toKernel(row);
}

/** Makes a kernel the default; undefined for the embedded one. */
export function setDefaultKernel(db: Database, kernelId: string | undefined): void {
  db.transaction(() => {
    db.prepare('DELETE FROM default_kernel').run();
    if (kernelId !== undefined)
      db.prepare('INSERT INTO default_kernel (one, kernel_id) VALUES (1, ?)').run(kernelId);
  })();
}

function toKernel(row: KernelRow): Kernel {
  return {
    ...row,
    readsDeviceWords: row.readsDeviceWords === null ? undefined : row.readsDeviceWords === 1,
    modules: JSON.parse(row.modules) as string[],
    warnings: JSON.parse(row.warnings) as string[],
    names: JSON.parse(row.names) as string[],
  };
}
