import { BangerError } from '../../errors.ts';
import { shownName } from '../../engine/images/layers/layer-refusal.ts';
import type { Attributes, GuardedTree, Names } from './guarded-tree.ts';
import type { CopyCount } from '../../engine/copy/local-tar.ts';
import { tarEntries, type SentEntry } from './tar-entries.ts';

export interface SaveTarInput {
  /** The VM that sends it, for messages */
  readonly vm: string;
  /** What was asked for */
  readonly kind: 'file' | 'directory' | 'symlink';
  /** What it becomes in the tree; undefined: its content goes into the root */
  readonly name: string | undefined;
  readonly keepOwners: boolean;
  readonly count: CopyCount;
}

/**
 * Writes what a guest sends into a tree. It is taken for what was asked for or refused: one file or link, or one
 * directory with what is in it. Bits that would let a program run as its owner, and devices, are not made on this host.
 */
export async function saveTar(
  source: AsyncIterable<Buffer>,
  tree: GuardedTree,
  input: SaveTarInput,
): Promise<void> {
  const sender = { name: `VM "${input.vm}"`, absolutePaths: 'refused' } as const;
  let isFirst = true;
  for await (const entry of tarEntries(source, sender)) {
    const names = isFirst ? firstNames(entry, input) : laterNames(entry, input);
    isFirst = false;
    if (names.length > 0) await save(entry, tree, { names, input });
  }
  if (isFirst) throw unexpected(input, 'nothing');
  tree.finish();
}

/** The first entry says what all of it is. */
function firstNames(entry: SentEntry, input: SaveTarInput): Names {
  const isDirectory = entry.type === 'directory';
  const isRoot = entry.names.length === 0;
  const type = isDirectory ? 'directory' : entry.type === 'symlink' ? 'symlink' : 'file';
  if (type !== input.kind || isRoot !== isDirectory || entry.names.length > 1 || entry.type === 'hardlink')
    throw unexpected(input, `a ${entry.type} "${shownName(entry.path)}"`);
  return input.name === undefined ? [] : [Buffer.from(input.name).toString('latin1')];
}

function laterNames(entry: SentEntry, input: SaveTarInput): Names {
  if (input.kind !== 'directory' || entry.names.length === 0)
    throw unexpected(input, `"${shownName(entry.path)}" as well`);
  return below(input, entry.names);
}

function below({ name }: SaveTarInput, names: Names): Names {
  return name === undefined ? names : [Buffer.from(name).toString('latin1'), ...names];
}

async function save(
  entry: SentEntry,
  tree: GuardedTree,
  { names, input }: { readonly names: Names; readonly input: SaveTarInput },
): Promise<void> {
  const { count } = input;
  const attributes = attributesOf(entry, input);
  switch (entry.type) {
    case 'directory':
      tree.directory(names, attributes);
      return;
    case 'file': {
      if ((entry.mode & 0o6000) !== 0)
        count.notes.add('Programs lost the bits that let them run as their owner (setuid, setgid)');
      const file = tree.file(names);
      await entry.body(async (offset, data) => {
        file.write(offset, data);
        count.bytes += data.length;
      });
      file.finish(entry.size, attributes);
      break;
    }
    case 'symlink':
      tree.symlink(names, entry.linkPath, attributes);
      break;
    case 'hardlink':
      tree.hardLink(names, below(input, entry.targetNames));
      break;
    case 'char':
    case 'block':
    case 'fifo':
      count.notes.add('Devices and pipes were left out');
      return;
  }
  count.files++;
}

function attributesOf(entry: SentEntry, { keepOwners }: SaveTarInput): Attributes {
  return {
    mode: entry.mode & (entry.type === 'directory' ? 0o1777 : 0o777),
    mtimeSeconds: entry.mtime.seconds + entry.mtime.nanoseconds / 1e9,
    owner: keepOwners ? { uid: entry.uid, gid: entry.gid } : undefined,
  };
}

function unexpected({ vm, kind }: SaveTarInput, what: string): BangerError {
  return new BangerError('command_failed', `VM "${vm}" was asked for a ${kind} and sent ${what}`, {
    hint: 'It may have changed meanwhile: try again. Nothing outside the destination was touched',
  });
}
