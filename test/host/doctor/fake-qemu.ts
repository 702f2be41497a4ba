import { chmodSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { BangerError } from '../../../src/errors.ts';
import type { Exec } from '../../../src/host/exec.ts';

/** What a fake QEMU does when it is to run a guest. */
const behaviours = {
  works: 'serve(); say("banger-probe-ok\\n");',
  hangs: 'serve();',
  // Its control socket is there, and nobody reads what comes.
  stalls: 'require("node:net").createServer(() => undefined).listen(socket);',
  sleeps: 'setInterval(() => undefined, 1e6);',
  // Later than a probe waits.
  slow: 'serve(); setTimeout(() => say("banger-probe-ok\\n"), 3_200);',
  fails: 'console.error("starting\\nqemu: could not enable KVM"); process.exit(1);',
} as const;

/**
 * A program that answers as QEMU does when it is asked about itself, and runs guests as told. Returns its path;
 * the pid of the last guest is beside it, in `PATH.pid`, and a line for each in `PATH.starts`.
 */
export function writeFakeQemu(directory: string, behaviour: keyof typeof behaviours): string {
  const path = join(directory, `qemu-${behaviour}`);
  const script = `#!${process.execPath}
const words = process.argv.slice(2);
const about = words.join(' ');
if (about === '--version') return console.log('QEMU emulator version 8.1.2 (fake)');
if (about === '-M help') return console.log('microvm  microvm\\nq35  Standard PC');
if (about.endsWith('-qmp stdio')) return;
const { appendFileSync, writeFileSync } = require('node:fs');
const after = (name) => words[words.indexOf(name) + 1];
const socket = after('-qmp').replace('unix:', '').replace(/,.*/, '');
const say = (text) => appendFileSync(/path=([^,]*)/.exec(after('-chardev'))[1], text);
const serve = () => require('node:net')
  .createServer((client) => {
    client.on('error', () => undefined);
    client.on('data', (line) => client.write(JSON.stringify({ return: {}, id: JSON.parse(line).id }) + '\\n'));
  })
  .listen(socket);
writeFileSync(${JSON.stringify(path)} + '.pid', String(process.pid));
appendFileSync(${JSON.stringify(path)} + '.starts', '1\\n');
${behaviours[behaviour]}
`;
  writeFileSync(path, script);
  chmodSync(path, 0o700);
  return path;
}

/**
 * A QEMU that opens its control socket, so that our driver takes it for a running VM. Its guest prints the words
 * given and powers off. Returns its path.
 */
export function writeFakeVmm(directory: string, words: string): string {
  const path = join(directory, 'vmm');
  const script = `#!${process.execPath}
const about = process.argv.slice(2).join(' ');
if (about === '--version') console.log('QEMU emulator version 8.1.2 (fake)');
if (about === '-M help') console.log('microvm  microvm\\nq35  Standard PC');
if (!about.includes('-serial')) process.exit(0);
const { appendFileSync } = require('node:fs');
const after = (name) => process.argv[process.argv.indexOf(name) + 1];
const socket = after('-qmp').replace('unix:', '').replace(/,.*/, '');
require('node:net')
  .createServer((client) => {
    client.on('error', () => undefined);
    client.on('data', (line) => {
      client.write(JSON.stringify({ return: {}, id: JSON.parse(line).id }) + '\\n');
      setTimeout(() => {
        appendFileSync(/path=([^,]*)/.exec(after('-chardev'))[1], ${JSON.stringify(words)});
        process.exit(0);
      }, 50);
    });
  })
  .listen(socket);
`;
  writeFileSync(path, script);
  chmodSync(path, 0o700);
  return path;
}

/** What a program prints, or how it ends otherwise; undefined: it is not installed. */
export type Answer = string | { readonly exitCode: number; readonly stderr: string } | undefined;

/** Host programs by command line: the longest beginning that fits answers. */
export function fakeExec(answers: Readonly<Record<string, Answer>>): Exec {
  return async (argv, options = {}) => {
    const words = argv.join(' ');
    const key = Object.keys(answers)
      .filter((beginning) => words.startsWith(beginning))
      .sort((one, other) => other.length - one.length)[0];
    const answer = key === undefined ? undefined : answers[key];
    if (answer === undefined) {
      throw new BangerError('host_unsupported', `"${argv[0]}" is not installed or not in PATH`);
    }
    const { exitCode, stderr } = typeof answer === 'string' ? { exitCode: 0, stderr: '' } : answer;
    if (exitCode !== 0 && !options.okExitCodes?.includes(exitCode)) {
      throw new BangerError('command_failed', `"${words}" exited with ${exitCode}: ${stderr}`);
    }
    return { exitCode, stdout: Buffer.from(typeof answer === 'string' ? answer : ''), stderr };
  };
}
