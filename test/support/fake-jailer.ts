/**
 * What a jailer does, by its documented rules, with the parts that need no other program than a system has: checks its
 * arguments, makes and enters the directory, becomes the user and turns into the program that it was given.
 *
 * Prints the commands of the second half for jailer-program.ts's shell, so that the process stays the same.
 */
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  readFileSync,
  realpathSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { basename, join } from 'node:path';

const args = process.argv.slice(2);
const place = args.indexOf('--');
const own = place < 0 ? args : args.slice(0, place);
const forwarded = place < 0 ? [] : args.slice(place + 1);
const once = [
  '--id',
  '--exec-file',
  '--uid',
  '--gid',
  '--chroot-base-dir',
  '--netns',
  '--cgroup-version',
  '--parent-cgroup',
];
const often = ['--cgroup', '--resource-limit'];
const flags = ['--daemonize', '--new-pid-ns'];
const given = new Map<string, string[]>();

main();

function main(): void {
  for (let index = 0; index < own.length; index++) {
    const word = own[index]!;
    if (flags.includes(word)) refuse(`this one keeps its process and its output: ${word}`);
    if (!once.includes(word) && !often.includes(word))
      refuse(`Found argument '${word}' which wasn't expected`);
    const values = given.get(word) ?? [];
    if (once.includes(word) && values.length > 0) refuse(`'${word}' was given twice`);
    const value = own[++index];
    if (value === undefined || value.startsWith('--')) refuse(`The argument '${word}' requires a value`);
    given.set(word, [...values, value!]);
  }
  const id = one('--id');
  if (!/^[A-Za-z0-9-]{1,64}$/.test(id)) refuse('Invalid instance ID');
  if (forwarded.includes('--id')) refuse('it gives --id to the program itself');
  const execFile = realpathSync(one('--exec-file'));
  if (!statSync(execFile).isFile()) refuse(`${execFile} is not a file`);
  const name = basename(execFile);
  if (!name.includes('firecracker')) refuse(`The filename of ${execFile} must contain "firecracker"`);
  const base = realpathSync(one('--chroot-base-dir'));
  if (!statSync(base).isDirectory()) refuse(`${base} is not a directory`);
  const uid = number('--uid');
  const gid = number('--gid');
  const limits = (given.get('--resource-limit') ?? []).map((limit) => {
    const [, name, value] =
      /^(fsize|no-file)=(\d+)$/.exec(limit) ?? refuse(`Invalid resource limit: ${limit}`);
    return `prlimit --pid $$ --${name === 'fsize' ? 'fsize' : 'nofile'}=${value}:${value}`;
  });
  const groups = groupCommands(id, name);
  if (process.getuid!() !== 0) refuse('it has to be root');
  const root = join(base, name, id, 'root');
  mkdirSync(root, { recursive: true });
  copyFileSync(execFile, join(root, name));
  chmodSync(join(root, name), 0o755);
  process.stdout.write(commands({ root, name, id, uid, gid, setUp: [...limits, ...groups] }));
}

/** The interpreters of the fake Firecracker have to be found inside; the real one needs nothing. */
function commands(jail: {
  readonly root: string;
  readonly name: string;
  readonly id: string;
  readonly uid: number;
  readonly gid: number;
  /** What comes before the jail is entered */
  readonly setUp: readonly string[];
}): string {
  const { root, name, id, uid, gid } = jail;
  const shown = (process.env['FAKE_SHOWN'] ?? '').split(':').filter((path) => existsSync(path));
  const owner = `${uid}:${gid}`;
  const inside = [
    '--id',
    id,
    '--start-time-us',
    '1',
    '--start-time-cpu-us',
    '1',
    '--parent-cpu-time-us',
    '1',
  ];
  for (const path of ['', 'dev', 'dev/net', 'run'])
    mkdirSync(join(root, path), { recursive: true, mode: 0o700 });
  const lines = [
    ...jail.setUp,
    ...shown.flatMap((path) => [
      `mkdir -p ${quoted(root + path)}`,
      `mount --rbind ${quoted(path)} ${quoted(root + path)}`,
    ]),
    `cd ${quoted(root)}`,
    ...['dev/net/tun c 10 200', 'dev/kvm c 10 232', 'dev/urandom c 1 9'].flatMap((device) => [
      `mknod -m 0600 ${device}`,
      `chown ${owner} ${device.split(' ')[0]!}`,
    ]),
    // Not one of the jailer's: node opens it before anything else.
    'mknod -m 0666 dev/null c 1 3',
    `chown ${owner} . dev dev/net run`,
    `PATH=$PATH:/usr/sbin; exec env -i "$(command -v chroot)" --userspec=+${uid}:+${gid} --groups= . ${['/' + name, ...inside, ...forwarded].map(quoted).join(' ')}`,
  ];
  return `set -e\n${lines.join('\n')}\n`;
}

/** By the rules for `--cgroup`: a file of one controller, one "=", a value; written below the parent, by the id. */
function groupCommands(id: string, name: string): string[] {
  const version = given.get('--cgroup-version')?.[0] ?? '1';
  if (version !== '1' && version !== '2') refuse(`Invalid cgroup version: ${version}`);
  const parent = given.get('--parent-cgroup')?.[0] ?? name;
  if (parent.startsWith('/') || parent.split('/').some((part) => part === '.' || part === '..'))
    refuse(`Invalid parent cgroup: ${parent}`);
  const mounts = readFileSync('/proc/mounts', 'utf8')
    .split('\n')
    .map((line) => line.split(' '));
  const commands = (given.get('--cgroup') ?? []).map((text) => {
    const [file = '', value = '', ...more] = text.split('=');
    if (value === '' || more.length > 0) refuse(`Invalid format for cgroups: ${text}`);
    const [controller = '', property, ...rest] = file.split('.');
    if (property === undefined || rest.length > 0) refuse(`Cgroup invalid file: ${file}`);
    const mount = mounts.find(([, , type, options = '']) =>
      version === '2' ? type === 'cgroup2' : type === 'cgroup' && options.split(',').includes(controller),
    );
    const top = mount?.[1] ?? refuse(`Cgroup controller ${controller} is unavailable`);
    const group = join(top, parent, id);
    const above = [join(top, parent), top].map((path) => quoted(join(path, 'cgroup.subtree_control')));
    const handOn = above.reverse().map((path) => `echo +${controller} > ${path}`);
    return [
      `mkdir -p ${quoted(group)}`,
      ...(version === '2' ? handOn : []),
      `echo ${quoted(value)} > ${quoted(join(group, file))}`,
      `echo $$ > ${quoted(join(group, version === '2' ? 'cgroup.procs' : 'tasks'))}`,
    ];
  });
  return commands.flat();
}

function one(name: string): string {
  const value = given.get(name)?.[0];
  if (value === undefined) refuse(`Argument '${name}' required, but not found`);
  return value!;
}

function number(name: string): number {
  const value = one(name);
  if (!/^\d+$/.test(value) || Number(value) >= 2 ** 32) refuse(`Invalid ${name}: ${value}`);
  return Number(value);
}

function quoted(word: string): string {
  return `'${word.replaceAll("'", `'\\''`)}'`;
}

function refuse(words: string): never {
  writeFileSync(2, `Jailer error: ${words}\n`);
  process.exit(1);
}
