/** Where programs of the system are that users may run as well (`nft`, `losetup`): Debian leaves them out of a user's PATH. */
const systemDirectories = ['/usr/local/sbin', '/usr/sbin', '/sbin'];
/** What execvp(3) goes by without one. */
const defaultPath = '/bin:/usr/bin';

/** Where programs are looked for: as the shell that started us has it, and then where the system's are. */
export function withSystemPrograms(path: string | undefined): string {
  const named = (path || defaultPath).split(':');
  return [...named, ...systemDirectories.filter((directory) => !named.includes(directory))].join(':');
}
