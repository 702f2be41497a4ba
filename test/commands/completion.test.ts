import { execFileSync } from 'node:child_process';
import { expect, test } from 'vitest';
import { scripts } from '../../src/commands/completion.ts';

/** What bash offers at the end of a line, and what it has asked for. */
function completed(line: string, wordBreaks = '"\'><=;|&(:'): { offered: string[]; asked: string } {
  const script = `
    asked=$(mktemp)
    banger() { (IFS=' '; echo "\${*:2}" >"$asked"); printf '%s\\n' tiny:latest tiny:old localhost:5000/tiny:1; }
    ${scripts.bash}
    COMP_LINE=$1 COMP_POINT=\${#1} COMP_WORDBREAKS=$2
    _banger
    cat "$asked"; rm "$asked"
    printf '%s\\n' "\${COMPREPLY[@]}"`;
  const printed = execFileSync('bash', ['-c', script, 'bash', line, wordBreaks], { encoding: 'utf8' });
  const [asked, ...offered] = printed.trimEnd().split('\n');
  return { asked: asked!, offered };
}

test.each([
  ['banger image delete ', 'image delete ', ['tiny:latest', 'tiny:old', 'localhost:5000/tiny:1']],
  ['banger image delete ti', 'image delete ti', ['tiny:latest', 'tiny:old']],
  // Readline has ended the word at the colon, and replaces what comes after it.
  ['banger image delete tiny:la', 'image delete tiny:la', ['latest']],
  ['banger image delete localhost:50', 'image delete localhost:50', ['5000/tiny:1']],
  ['banger vm create --image=ti', 'vm create --image ti', ['tiny:latest', 'tiny:old']],
  ['banger vm create --image=tiny:o', 'vm create --image tiny:o', ['old']],
])('bash completes %j', (line, asked, offered) => {
  expect(completed(line)).toEqual({ asked, offered });
});

test('where words do not end at colons, all of the word is offered', () => {
  expect(completed('banger image show tiny:o', ' \t').offered).toEqual(['tiny:old']);
});
