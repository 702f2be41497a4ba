/** A file of a cpio archive. Missing parent directories are added. */
export interface CpioFile {
  /** Absolute path in the guest's initramfs */
  readonly path: string;
  readonly content: string | Buffer;
  /** Permission bits */
  readonly mode: number;
}

const directoryMode = 0o040755;
const regularFile = 0o100000;

/**
 * A "newc" cpio archive, the format of the kernel's initramfs
 * (https://docs.kernel.org/driver-api/early-userspace/buffer-format.html). Everything belongs to root.
 */
export function cpioArchive(files: readonly CpioFile[]): Buffer {
  const parts: Buffer[] = [];
  const directories = new Set<string>();
  let inode = 1;
  const add = (name: string, mode: number, content: Buffer): void => {
    parts.push(...entry(name, mode, content, inode++));
  };
  for (const file of files) {
    const names = file.path.split('/').filter((part) => part !== '');
    for (let depth = 1; depth < names.length; depth++) {
      const directory = names.slice(0, depth).join('/');
      if (directories.has(directory)) continue;
      directories.add(directory);
      add(directory, directoryMode, Buffer.alloc(0));
    }
    const { content } = file;
    add(
      names.join('/'),
      regularFile | file.mode,
      typeof content === 'string' ? Buffer.from(content) : content,
    );
  }
  parts.push(...entry('TRAILER!!!', 0, Buffer.alloc(0), 0));
  return Buffer.concat(parts);
}

/** Parts of the archive; contents, which may be large, are copied only when it is put together. */
function entry(name: string, mode: number, content: Buffer, inode: number): Buffer[] {
  const nameBytes = Buffer.from(`${name}\0`);
  const links = 1;
  const fields = [inode, mode, 0, 0, links, 0, content.length, 0, 0, 0, 0, nameBytes.length, 0];
  const header = Buffer.from(`070701${fields.map((field) => field.toString(16).padStart(8, '0')).join('')}`);
  const head = Buffer.concat([header, nameBytes]);
  return [head, padding(head), content, padding(content)];
}

/** Header and content each end on a multiple of four bytes. */
function padding(bytes: Buffer): Buffer {
  return Buffer.alloc((4 - (bytes.length % 4)) % 4);
}
