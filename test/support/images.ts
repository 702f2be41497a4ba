import { execFile, execFileSync, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import {
  copyFileSync,
  existsSync,
  globSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { rootCertificates } from 'node:tls';
import { promisify } from 'node:util';

const cache = resolve('.cache/test-images');

/** Runs a program of the host; throws with what it said when it fails. */
export async function program(
  name: string,
  args: readonly string[],
  env: NodeJS.ProcessEnv = process.env,
): Promise<string> {
  const { stdout } = await promisify(execFile)(name, [...args], { env, maxBuffer: 64 * 1024 ** 2 });
  return stdout;
}

/**
 * An OCI layout with the image `test`: the host's Debian, minimal, with systemd. Made once; another recipe makes
 * another.
 */
export async function debianLayout(): Promise<string> {
  const suite = /^VERSION_CODENAME=(.*)$/m.exec(readFileSync('/etc/os-release', 'utf8'))?.[1] ?? 'stable';
  const recipe = ['--variant=minbase', '--include=systemd,systemd-sysv,dbus', suite];
  const sources = globSync('/etc/apt/{sources.list,sources.list.d/*.{list,sources}}').filter(
    (file) => statSync(file).size > 0,
  );
  return cached(`debian-${suite}`, recipe, async (layout) => {
    const tar = `${layout}.tar`;
    await program('mmdebstrap', ['--quiet', ...recipe, tar, ...sources]);
    await packLayout(layout, [tar]);
    rmSync(tar);
  });
}

/** A rootfs tar as small images are: busybox and its links, no init that would start anything. */
export async function busyboxTar(): Promise<string> {
  return cached('busybox', ['1', 'busybox-static'], async (tar) => {
    await packTar(await busyboxRoot(), tar);
  });
}

async function busyboxRoot(): Promise<string> {
  const root = mkdtempSync(join(tmpdir(), 'bt-busybox-'));
  for (const name of ['bin', 'etc', 'root', 'tmp', 'usr/bin'])
    mkdirSync(join(root, name), { recursive: true });
  copyFileSync(await staticBusybox(root), join(root, 'bin/busybox'));
  const applets = (await program(join(root, 'bin/busybox'), ['--list'])).trim().split('\n');
  for (const applet of applets.filter((name) => name !== 'busybox'))
    symlinkSync('/bin/busybox', join(root, 'bin', applet));
  writeFileSync(join(root, 'etc/passwd'), 'root:x:0:0:root:/root:/bin/sh\nada:x:1000:1000::/tmp:/bin/sh\n');
  writeFileSync(join(root, 'etc/os-release'), 'ID=tiny\nPRETTY_NAME="Tiny Linux"\n');
  return root;
}

/** The same with mise itself, from where npm gets it. Throws what npm says when it cannot. */
export async function miseTar(): Promise<string> {
  const name = `@jdxcode/mise-linux-${process.arch}@2026.9.15`;
  return cached('mise', ['1', name], async (tar) => {
    const root = await busyboxRoot();
    const place = mkdtempSync(join(root, 'npm-'));
    // The system's Node runs npm: settings for all users are found beside it.
    const path = (process.env['PATH'] ?? '').replaceAll(/[^:]*\/node_modules\/\.bin:/g, '');
    const words = ['pack', '--silent', '--fetch-retries=1', name, '--pack-destination', place];
    await program('npm', words, { ...process.env, PATH: path });
    await program('tar', ['-C', place, '-xzf', globSync(join(place, '*.tgz'))[0]!]);
    mkdirSync(join(root, 'usr/local/bin'), { recursive: true });
    const mise = join(root, 'usr/local/bin/mise');
    renameSync(join(place, 'package/bin/mise'), mise);
    rmSync(place, { recursive: true });
    // This host's C library: it is no static program.
    for (const [library] of (await program('ldd', [mise])).matchAll(/\/\S+\.so\S*/g)) {
      mkdirSync(join(root, dirname(library)), { recursive: true });
      copyFileSync(library, join(root, library));
    }
    mkdirSync(join(root, 'etc/ssl/certs'), { recursive: true });
    // It ends when there are none, also to fetch something by HTTP.
    writeFileSync(join(root, 'etc/ssl/certs/ca-certificates.crt'), rootCertificates.join('\n'));
    await packTar(root, tar);
  });
}

/** A rootfs tar with one static program, `/busybox`, and nothing else. */
export async function scratchTar(): Promise<string> {
  return cached('scratch', ['2', 'busybox-static'], async (tar) => {
    const root = mkdtempSync(join(tmpdir(), 'bt-scratch-'));
    copyFileSync(await staticBusybox(root), join(root, 'busybox'));
    await packTar(root, tar, ['busybox']);
  });
}

/** The same as the image `test` of an OCI layout. */
export async function scratchLayout(): Promise<string> {
  return cached('scratch-layout', ['1', 'busybox-static'], async (layout) =>
    packLayout(layout, [await scratchTar()]),
  );
}

async function packTar(root: string, tar: string, names: readonly string[] = ['.']): Promise<void> {
  await program('tar', ['-C', root, '--owner=0', '--group=0', '--numeric-owner', '-cf', tar, ...names]);
  rmSync(root, { recursive: true });
}

/** The host's busybox when it needs no libraries, else Debian's package unpacked. */
async function staticBusybox(directory: string): Promise<string> {
  const installed = '/bin/busybox';
  if (existsSync(installed) && isStatic(installed)) return installed;
  const unpacked = mkdtempSync(`${directory}-deb-`);
  execFileSync('apt-get', ['download', '-q', 'busybox-static'], { cwd: unpacked, stdio: 'ignore' });
  await program('dpkg-deb', ['-x', globSync(join(unpacked, '*.deb'))[0]!, unpacked]);
  return globSync(join(unpacked, '{usr/bin,bin}/busybox'))[0]!;
}

/** No program interpreter among its program headers. */
function isStatic(path: string): boolean {
  return !readFileSync(path).subarray(0, 4096).includes('/ld-linux');
}

/** Makes an OCI layout with the image `test` of these layers, or puts them on top of the one that it has. */
export async function packLayout(layout: string, layers: readonly string[]): Promise<void> {
  const image = `${layout}:test`;
  if (!existsSync(layout)) {
    await program('umoci', ['init', '--layout', layout]);
    await program('umoci', ['new', '--image', image]);
  }
  for (const layer of layers) await program('umoci', ['raw', 'add-layer', '--image', image, layer]);
}

/** Makes a file or directory once per recipe, and lets nobody see it half made; who wants it meanwhile waits. */
async function cached(
  name: string,
  recipe: readonly string[],
  make: (path: string) => Promise<void>,
): Promise<string> {
  const key = createHash('sha256').update(recipe.join('\n')).digest('hex').slice(0, 12);
  const path = join(cache, `${name}-${key}`);
  if (existsSync(path)) return path;
  mkdirSync(cache, { recursive: true });
  return whileLocked(`${path}.lock`, async () => {
    if (existsSync(path)) return path;
    const directory = mkdtempSync(join(cache, '.making-'));
    try {
      await make(join(directory, name));
      renameSync(join(directory, name), path);
    } finally {
      rmSync(directory, { recursive: true, force: true });
    }
    return path;
  });
}

/** The lock is a program's that ends when its input does: whoever dies gives it back. */
async function whileLocked<T>(path: string, work: () => Promise<T>): Promise<T> {
  const holder = spawn('flock', [path, 'sh', '-c', 'echo held; exec cat'], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  await once(holder.stdout, 'data');
  try {
    return await work();
  } finally {
    holder.stdin.end();
    await once(holder, 'exit');
  }
}
