/** Converts an image of many empty files: `node convert-many.ts DIRECTORY FILES BYTES-PER-FILE`. Prints how many names it has. */
import path from 'node:path';
import { convertLayers } from '../../src/engine/images/layers/layers.ts';
import { encodeEntry, file, withChecksum } from './tar-builder.ts';

const perDirectory = 1000;
const nameLength = 10;

const [directory = '', files, bytesPerFile] = process.argv.slice(2);
const count = Number(files);

/** Only a piece of it is there at a time. */
async function* layer(): AsyncGenerator<Buffer> {
  const header = encodeEntry(file(`00000/${'0'.repeat(nameLength)}`, ''));
  for (let from = 0; from < count; from += perDirectory) {
    const part = Buffer.alloc(perDirectory * header.length, header);
    for (let index = 0; index < perDirectory; index++) {
      const block = part.subarray(index * header.length, (index + 1) * header.length);
      block.write(String(from / perDirectory).padStart(5, '0'), 0, 'latin1');
      block.write(String(from + index).padStart(nameLength, '0'), 6, 'latin1');
      withChecksum(block);
    }
    yield part;
  }
}

const { entries } = await convertLayers({
  layers: [{ open: layer, label: 'many' }],
  destination: path.join(directory, 'rootfs.ext4'),
  workDirectory: path.join(directory, 'work'),
  sizeBytes: 2 ** 28,
  seed: 'sha256:test',
  signal: new AbortController().signal,
  limits: { metadataBytes: count * Number(bytesPerFile) },
});
process.stdout.write(`${entries}\n`);
