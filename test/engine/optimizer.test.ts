import { execFileSync } from 'node:child_process';
import { resolve } from 'node:path';
import { expect, test } from 'vitest';

/** Of %GetOptimizationStatus: code of TurboFan is there (V8's src/runtime/runtime.h). */
const turboFanned = 1 << 6;

const program = `
import { admitOptimizer, holdOptimizer } from '${resolve('src/engine/optimizer.ts')}';

function sum(numbers) {
  let total = 0;
  for (const number of numbers) total += number;
  return total;
}
const numbers = Array.from({ length: 1000 }, (_, index) => index);
const isOptimized = () => (%GetOptimizationStatus(sum) & ${turboFanned}) !== 0;
async function runHot() {
  for (let round = 0; round < 500 && !isOptimized(); round++) {
    for (let count = 0; count < 200; count++) sum(numbers);
    await new Promise(setImmediate);
  }
  return isOptimized();
}
holdOptimizer();
const held = await runHot();
admitOptimizer();
console.log(JSON.stringify({ held, admitted: await runHot() }));
`;

test('a hot function is left to the first compilers until the optimizer is let in', () => {
  const words = ['--allow-natives-syntax', '--input-type=module', '--eval', program];
  const answer = execFileSync(process.execPath, words, { encoding: 'utf8', timeout: 60_000 });
  expect(JSON.parse(answer)).toEqual({ held: false, admitted: true });
});
