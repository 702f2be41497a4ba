import { lstatSync } from 'node:fs';
import { homedir, tmpdir, userInfo } from 'node:os';
import { resolveLayout, type Layout } from '../src/state/layout.ts';

/** Where this user's things are. Throws `invalid_argument` when the environment gives a relative path. */
export function ownLayout(): Layout {
  const uid = process.getuid!();
  const runtime = process.env['XDG_RUNTIME_DIR'];
  return resolveLayout({
    env: { ...process.env, XDG_RUNTIME_DIR: runtime && isOwn(runtime, uid) ? runtime : undefined },
    // An empty HOME says nothing.
    home: homedir() || userInfo().homedir,
    uid,
    temporaryDirectory: tmpdir(),
  });
}

/** After `su`, and in containers, XDG_RUNTIME_DIR is another user's, or not there: the temporary directory does. */
function isOwn(path: string, uid: number): boolean {
  try {
    const found = lstatSync(path);
    return found.isDirectory() && found.uid === uid && (found.mode & 0o022) === 0;
  } catch {
    return false;
  }
}
