import type { Readable } from 'node:stream';
import { StringDecoder } from 'node:string_decoder';
import { stripVTControlCharacters } from 'node:util';
import type { Operation } from '../operations.ts';

/** A client that does not read must not make an engine grow: what is beyond is not told. */
const maxLines = 5_000;
const maxLineLength = 1_000;

/** Tells what a program of a guest prints, a note for each line, without colours and earlier states of progress bars. */
export async function tellLines(from: Readable, operation: Operation): Promise<void> {
  const decoder = new StringDecoder('utf8');
  let rest = '';
  let told = 0;
  const tell = (line: string): void => {
    const last = line.replace(/\r+$/, '').split('\r').at(-1)!;
    const plain = stripVTControlCharacters(last).slice(0, maxLineLength);
    if (++told <= maxLines) operation.note?.(`  ${plain}`);
    else if (told === maxLines + 1) operation.note?.('  … (it prints more than is shown)');
  };
  // Read to the end, the channel must stay: see the bridge of exec-vm.ts.
  for await (const chunk of from.iterator({ destroyOnReturn: false })) {
    const lines = (rest + decoder.write(chunk as Buffer)).split('\n');
    rest = lines.pop()!.slice(-maxLineLength * 10);
    lines.forEach(tell);
  }
  rest += decoder.end();
  if (rest !== '') tell(rest);
}
