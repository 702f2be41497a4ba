/**
 * How long the engine takes to answer for a name, beside a datagram that another process only sends back.
 *
 *   node bench/dns.ts [QUESTIONS]
 */
import { spawnSync, fork } from 'node:child_process';
import { createSocket } from 'node:dgram';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';

const banger = resolve(import.meta.dirname, '../dist/banger');
const questions = Number(process.argv[2] ?? 2000);
const vms = 20;
const targetMs = 1;

if (process.argv[2] === 'echo') echo();
else await main();

async function main(): Promise<void> {
  const home = mkdtempSync(join(tmpdir(), 'banger-bench-'));
  const env = { ...process.env, BANGER_HOME: home };
  const run = (...words: string[]): string => {
    const { status, stdout, stderr } = spawnSync(banger, words, { env, encoding: 'utf8' });
    if (status !== 0) throw new Error(`banger ${words.join(' ')}: ${stderr}`);
    return stdout;
  };
  writeFileSync(join(home, 'config.toml'), '[dns]\nlisten = "127.0.0.1:0"\n');
  const plain = fork(import.meta.filename, ['echo']);
  try {
    const echoPort = await new Promise<number>((done) => plain.once('message', (port) => done(Number(port))));
    const names = Array.from({ length: vms }, (_, n) => `vm-${n}`);
    for (const name of names) run('vm', 'create', '--no-start', '--name', name);
    const { names: place } = JSON.parse(run('engine', 'status', '--json')) as { names: string };
    const enginePort = Number(place.split(':')[1]);
    const times = { echo: [] as number[], known: [] as number[], unknown: [] as number[] };
    for (let n = 0; n < questions; n++) {
      times.echo.push(await ask(echoPort, names[n % vms]!));
      times.known.push(await ask(enginePort, names[n % vms]!));
      times.unknown.push(await ask(enginePort, `no-${n}`));
    }
    const base = median(times.echo);
    print('sent back by a process', base, base);
    print('a VM that there is', median(times.known), base);
    print('a VM that there is not', median(times.unknown), base);
    const isGood = median(times.known) <= targetMs;
    process.stdout.write(`target: a median of at most ${targetMs} ms: ${isGood ? 'met' : 'missed'}\n`);
    if (!isGood) process.exitCode = 1;
  } finally {
    plain.kill();
    spawnSync(banger, ['vm', 'prune', '--force'], { env, stdio: 'ignore' });
    spawnSync(banger, ['engine', 'stop'], { env, stdio: 'ignore' });
    rmSync(home, { recursive: true, force: true });
  }
}

function echo(): void {
  const socket = createSocket('udp4');
  socket.on('message', (message, from) => socket.send(message, from.port, from.address));
  socket.bind(0, '127.0.0.1', () => process.send!(socket.address().port));
}

/** Milliseconds from question to answer. */
async function ask(port: number, name: string): Promise<number> {
  const label = Buffer.from(name);
  const header = Buffer.from([0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
  const rest = Buffer.from([2, 0x76, 0x6d, 0, 0, 1, 0, 1]);
  const socket = createSocket('udp4');
  await new Promise<void>((done) => socket.bind(0, '127.0.0.1', done));
  const began = performance.now();
  await new Promise<void>((done, fail) => {
    const timer = setTimeout(() => fail(new Error('no answer')), 5000);
    socket.once('message', () => {
      clearTimeout(timer);
      done();
    });
    socket.send(Buffer.concat([header, Buffer.from([label.length]), label, rest]), port, '127.0.0.1');
  });
  const elapsed = performance.now() - began;
  socket.close();
  return elapsed;
}

function median(numbers: readonly number[]): number {
  return numbers.toSorted((left, right) => left - right)[Math.floor(numbers.length / 2)]!;
}

function print(title: string, ms: number, base: number): void {
  process.stdout.write(`${title.padEnd(26)} ${ms.toFixed(3)} ms  ${(ms / base).toFixed(2)} x\n`);
}
