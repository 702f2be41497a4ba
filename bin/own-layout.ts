import { homedir, tmpdir } from 'node:os';
import { resolveLayout, type Layout } from '../src/state/layout.ts';

/** Where this user's things are. */
export function ownLayout(): Layout {
  return resolveLayout({
    env: process.env,
    home: homedir(),
    uid: process.getuid!(),
    temporaryDirectory: tmpdir(),
  });
}
