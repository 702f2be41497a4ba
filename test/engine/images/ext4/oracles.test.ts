import { execFileSync } from 'node:child_process';
import { createReadStream, mkdirSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { expect, test } from 'vitest';
import {
  convert,
  describeTree,
  expectClean,
  mounted,
  mountObstacle,
  tempDirectory,
} from '../layers/image-inspector.ts';

const obstacle = mountObstacle();

/** Why mounted filesystems cannot be grown here, or undefined if they can. */
function growObstacle(): string | undefined {
  const sysResource = 24n;
  const capabilities = /^CapEff:\s*([0-9a-f]+)$/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1] ?? '0';
  const isCapable = ((BigInt(`0x${capabilities}`) >> sysResource) & 1n) === 1n;
  return isCapable
    ? undefined
    : 'growing a mounted filesystem needs CAP_SYS_RESOURCE; every boot of a VM does it in the guest';
}

const run = (cwd: string, program: string, ...args: string[]): string =>
  execFileSync(program, args, { cwd, stdio: 'pipe', encoding: 'utf8', maxBuffer: 2 ** 26 });

/** Extended attributes of everything below a directory, in an order of their own. */
const attributes = (root: string): string =>
  run(
    root,
    'sh',
    '-c',
    'find . -print0 | LC_ALL=C sort -z | xargs -0 getfattr -h -d -m - -e hex 2>/dev/null',
  );

/** Two layers as builders make them: the upper one changes, removes, replaces and adds. */
function makeLayers(directory: string): string[] {
  const lower = path.join(directory, 'lower');
  mkdirSync(path.join(lower, 'usr/bin'), { recursive: true });
  mkdirSync(path.join(lower, 'opaque/inner'), { recursive: true });
  mkdirSync(path.join(lower, 'becomes-file'));
  for (const name of [
    'kept',
    'changed',
    'removed',
    'becomes-link',
    'usr/bin/tool',
    'opaque/inner/x',
    'becomes-file/x',
  ])
    writeFileSync(path.join(lower, name), `${name}\n`.repeat(2000));
  run(lower, 'setfattr', '-n', 'user.comment', '-v', 'hello', 'kept');
  run(
    lower,
    'setfattr',
    '-n',
    'security.capability',
    '-v',
    '0x0100000200040000000000000000000000000000',
    'usr/bin/tool',
  );
  run(lower, 'setfacl', '-m', 'u:1234:rwx,g:99:r', 'kept');
  run(lower, 'setfacl', '-d', '-m', 'u:77:r', 'usr');
  run(lower, 'chmod', '6755', 'usr/bin/tool');
  run(lower, 'chmod', '1777', 'opaque');
  run(lower, 'chown', '70000:80000', 'changed');
  run(lower, 'ln', 'kept', 'hard');
  run(lower, 'mknod', 'null', 'c', '1', '3');
  run(lower, 'mknod', 'disk', 'b', '259', '65536');
  run(lower, 'mkfifo', 'pipe');
  run(lower, 'ln', '-s', 'x'.repeat(60), 'long-link');
  run(lower, 'touch', '-d', '2001-02-03 04:05:06.789', 'kept');
  const upper = path.join(directory, 'upper');
  mkdirSync(path.join(upper, 'opaque'), { recursive: true });
  writeFileSync(path.join(upper, 'changed'), 'changed above\n');
  writeFileSync(path.join(upper, '.wh.removed'), '');
  writeFileSync(path.join(upper, 'opaque/.wh..wh..opq'), '');
  writeFileSync(path.join(upper, 'opaque/new'), 'new\n');
  writeFileSync(path.join(upper, 'becomes-file'), 'a file now\n');
  run(upper, 'ln', '-s', 'kept', 'becomes-link');
  return [lower, upper].map((source) => {
    const tar = `${source}.tar`;
    // As umoci wants it: capabilities and ACLs as extended attributes.
    run(source, 'tar', '--format=pax', '--xattrs', '--xattrs-include=*', '--numeric-owner', '-cf', tar, '.');
    return tar;
  });
}

test('an image is what umoci unpacks: types, modes, owners, times, contents, links, devices, attributes', async ({
  skip,
}) => {
  if (obstacle !== undefined) skip(obstacle);
  using temp = tempDirectory();
  const layers = makeLayers(temp.path);
  const layout = path.join(temp.path, 'layout');
  run(temp.path, 'umoci', 'init', '--layout', layout);
  run(temp.path, 'umoci', 'new', '--image', `${layout}:test`);
  for (const layer of layers) run(temp.path, 'umoci', 'raw', 'add-layer', '--image', `${layout}:test`, layer);
  run(temp.path, 'umoci', 'raw', 'unpack', '--image', `${layout}:test`, path.join(temp.path, 'rootfs'));

  const index = JSON.parse(readFileSync(path.join(layout, 'index.json'), 'utf8')) as {
    manifests: { digest: string }[];
  };
  const blob = (digest: string): string => path.join(layout, 'blobs', digest.replace(':', '/'));
  const manifest = JSON.parse(readFileSync(blob(index.manifests[0]!.digest), 'utf8')) as {
    layers: { digest: string }[];
  };
  const { image } = await convert(
    temp.path,
    manifest.layers.map(({ digest }) => ({ open: () => createReadStream(blob(digest)), label: digest })),
  );
  expectClean(image);
  using mount = mounted(image);
  const expected = describeTree(path.join(temp.path, 'rootfs'));
  expect(Object.keys(expected).length).toBeGreaterThanOrEqual(15);
  expect(describeTree(mount.path)).toEqual(expected);
  const unpacked = attributes(path.join(temp.path, 'rootfs'));
  expect(unpacked).toContain('security.capability');
  expect(unpacked).toContain('system.posix_acl_default');
  expect(attributes(mount.path)).toBe(unpacked);
});

test('a mounted image grows to many times its size, with its contents, and is clean', async ({ skip }) => {
  const reason = obstacle ?? growObstacle();
  if (reason !== undefined) skip(reason);
  using temp = tempDirectory();
  const files = Array.from({ length: 200 }, (_, at) => ({
    path: `f${at}`,
    data: `content ${at}\n`.repeat(500),
  }));
  const { image } = await convert(temp.path, [files]);
  truncateSync(image, 20 * 1024 ** 3);
  {
    using mount = mounted(image, 'rw');
    const device = run(mount.path, 'findmnt', '-n', '-o', 'SOURCE', '--target', mount.path).trim();
    // On line: the filesystem is in use all the while.
    run(mount.path, 'resize2fs', device);
    const [, total] = run(mount.path, 'stat', '-f', '-c', '%S %b', mount.path).split(' ').map(Number);
    expect(total! * 4096).toBeGreaterThan(19 * 1024 ** 3);
    run(mount.path, 'sh', '-c', 'mkdir new && for i in $(seq 500); do echo $i >new/$i; done');
    expect(readFileSync(path.join(mount.path, 'f199'), 'utf8')).toBe('content 199\n'.repeat(500));
  }
  expectClean(image);
});
