import { basename, posix } from 'node:path';
import { BangerError } from '../../errors.ts';

/** Directories of the guest's own system: replacing one would break it. */
const systemDirectories = new Set(
  'bin boot dev etc home lib lib32 lib64 libx32 lost+found media mnt opt proc root run sbin srv sys tmp usr var'
    .split(' ')
    .map((name) => `/${name}`),
);

/** Directories where trees are, whatever programs the guest has. */
const usualParent = /^\/(?:root|home\/[^/]+|srv|work|workspaces?)\//;

/** Names by which programs find code, or settings, in a directory above the one where they run, or in a home directory. */
const soughtNames = new Set(['bin', 'go', 'mise', 'node_modules', 'perl5', 'R', 'texmf']);

/** Where a working tree goes in the guest when nobody says so: `/root/` and the name of its directory. */
export function defaultGuestPath(hostPath: string): string {
  const name = basename(hostPath)
    .replace(/[^A-Za-z0-9._-]+/g, '-')
    .replace(/^[.-]+/, '')
    .slice(0, 100);
  // Whoever clones a repository has not thought about its name.
  return `/root/${soughtNames.has(name) ? `${name}-tree` : name || 'workspace'}`;
}

/**
 * Whether a tree may say itself that it goes there: no program of the guest looks for files of its own in such a place.
 * Anywhere else, such as in `/root/.config/NAME`, files of the tree would be settings, or commands.
 */
export function isUsualPlace(guestPath: string): boolean {
  if (guestPath === '/workspace' || guestPath === '/work') return true;
  const names = guestPath.slice(1).split('/');
  return (
    usualParent.test(guestPath) && names.every((name) => !name.startsWith('.') && !soughtNames.has(name))
  );
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
