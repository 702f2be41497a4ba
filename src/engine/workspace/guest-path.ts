import { basename, posix } from 'node:path';
import { BangerError } from '../../errors.ts';

/** Directories of the guest's own system: replacing one would break it. */
const systemDirectories = new Set(
  'bin boot dev etc home lib lib32 lib64 libx32 lost+found media mnt opt proc root run sbin srv sys tmp usr var'
    .split(' ')
    .map((name) => `/${name}`),
);

/** Where a working tree goes in the guest when nobody says so: `/root/` and the name of its directory. */
export function defaultGuestPath(hostPath: string): string {
  const name = basename(hostPath)
    .replace(/[^A-Za-z0-9._-]+/g, '-')
    .replace(/^[.-]+/, '')
    .slice(0, 100);
  return `/root/${name || 'workspace'}`;
}

/** Checks and normalises a path that a user chose. */
export function parseGuestPath(text: string): string {
  const path = posix.normalize(text).replace(/\/+$/, '');
  // eslint-disable-next-line no-control-regex -- a line break or zero byte in the name would end it early
  const isPlain = path.startsWith('/') && !/[\u0000-\u001f]/.test(path);
  const isSystem =
    path === '' ||
    systemDirectories.has(path) ||
    /^\/(?:(?:proc|sys|dev|run\/banger)\/|var\/lib(?:\/banger(?:\/|$)|$))/.test(path);
  if (isPlain && !isSystem) return path;
  throw new BangerError('invalid_argument', `"${text}" cannot hold a workspace`, {
    hint: 'Give a directory of its own, such as /root/project or /srv/project',
  });
}
