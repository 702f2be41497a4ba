import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { exec } from '../../../src/host/exec.ts';
import { commandLine, findProcessesByArguments } from '../../../src/host/process.ts';
import { Scratch } from '../../../src/host/doctor/scratch.ts';

let root: string;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'banger-test-'));
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

test('nothing is made until it is asked for, and nothing stays', async () => {
  const scratch = new Scratch(root);
  expect(readdirSync(root)).toEqual([]);
  const directory = scratch.directory;
  expect(scratch.directory).toBe(directory);
  writeFileSync(join(directory, 'file'), '');
  await scratch.remove();
  await scratch.remove();
  expect(readdirSync(root)).toEqual([]);
});

test('our handlers go with it', async () => {
  const count = (): number =>
    process.listenerCount('exit') + process.listenerCount('SIGTERM') + process.listenerCount('SIGHUP');
  const before = count();
  const scratch = new Scratch(root);
  expect(scratch.id).toMatch(/^[0-9a-f]{12}-doctor$/);
  expect(count()).toBe(before + 3);
  await scratch.remove();
  expect(count()).toBe(before);
});

test.each(['exit', 'SIGTERM', 'SIGHUP'])(
  'a command that ends by %s takes its VMMs and files along',
  async (end) => {
    const program = `
    import { spawnDetached } from ${JSON.stringify(resolve('src/host/process.ts'))};
    import { Scratch } from ${JSON.stringify(resolve('src/host/doctor/scratch.ts'))};
    const [root, end] = process.argv.slice(2);
    const { directory, id } = new Scratch(root);
    const words = ['--', '-name', 'banger-' + id, 'file:' + directory + '/console'];
    await spawnDetached([process.execPath, '-e', 'setTimeout(() => undefined, 60_000)', ...words], { logFile: directory + '/log' });
    if (end === 'exit') process.exit(3);
    process.kill(process.pid, end);
    setTimeout(() => undefined, 60_000);
  `;
    const script = join(root, 'program.ts');
    writeFileSync(script, program);
    const { exitCode } = await exec([process.execPath, script, root, end], { okExitCodes: [3, -1] });
    expect(exitCode).toBe(end === 'exit' ? 3 : -1);
    expect(readdirSync(root)).toEqual(['program.ts']);
    const left = () => findProcessesByArguments(['-name']).filter((pid) => isIn(pid, root));
    // A killed process is still seen while the kernel takes it apart.
    await vi.waitFor(() => expect(left()).toEqual([]), 30_000);
  },
);

function isIn(pid: number, directory: string): boolean {
  return commandLine(pid)?.some((word) => word.includes(directory)) ?? false;
}
