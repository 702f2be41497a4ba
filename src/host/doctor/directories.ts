import { constants, type Stats } from 'node:fs';
import { access, lstat, stat } from 'node:fs/promises';
import { errnoOf } from '../../errors.ts';
import { fail, pass, warn, type CheckResult, type Subject } from './check.ts';
import { nearestExisting } from './storage.ts';

export interface DirectoryInput {
  readonly path: string;
  /** Refused by the engine when it is a link, somebody else's, or open to others: sockets, and code to load */
  readonly isStrict: boolean;
  readonly uid: number;
}

/** A directory of ours: fit for use, or absent where it can be made. */
export async function checkDirectory(subject: Subject, input: DirectoryInput): Promise<CheckResult> {
  const { path, uid } = input;
  const found = await findStatus(input);
  if (!found) return checkParent(subject, path);
  if (!found.isDirectory()) {
    return fail(subject, `${path} is not a directory`, `Move it away: mv ${path} ${path}.old`);
  }
  if (found.uid !== uid) {
    return fail(
      subject,
      `${path} belongs to user ${found.uid}, not to you (${uid})`,
      `Make it yours: sudo chown -R ${uid} ${path}`,
    );
  }
  if (!(await isWritable(path))) {
    return fail(subject, `${path} cannot be written to`, `Allow it: chmod 700 ${path}`);
  }
  const mode = (found.mode & 0o777).toString(8);
  if ((found.mode & 0o077) === 0) return pass(subject, `${path}, mode ${mode}`);
  const problem = input.isStrict ? fail : warn;
  return problem(subject, `${path} is open to other users (mode ${mode})`, `Close it: chmod 700 ${path}`);
}

/** Longest address of a Unix socket on Linux, without its terminating zero. */
const maxSocketPath = 107;

/** `socketPath` is the longest one that will be used. */
export function checkSocketPath(socketPath: string): CheckResult {
  const subject = { id: 'socket-path', title: 'Socket path' };
  const bytes = Buffer.byteLength(socketPath);
  const evidence = `${bytes} of at most ${maxSocketPath} bytes`;
  if (bytes <= maxSocketPath) return pass(subject, evidence);
  return fail(subject, evidence, 'Choose a shorter directory: export BANGER_HOME=DIR');
}

async function checkParent(subject: Subject, path: string): Promise<CheckResult> {
  const parent = await nearestExisting(path);
  if (!(await stat(parent)).isDirectory()) {
    return fail(subject, `${parent} is not a directory`, `Move it away: mv ${parent} ${parent}.old`);
  }
  if (await isWritable(parent)) return pass(subject, `${path} is made when it is needed`);
  return fail(
    subject,
    `${path} cannot be made: ${parent} cannot be written to`,
    'Choose another place: export BANGER_HOME=DIR',
  );
}

async function findStatus({ path, isStrict }: DirectoryInput): Promise<Stats | undefined> {
  try {
    return await (isStrict ? lstat(path) : stat(path));
  } catch (error) {
    const errno = errnoOf(error);
    if (errno === 'ENOENT' || errno === 'ENOTDIR') return undefined;
    throw error;
  }
}

async function isWritable(path: string): Promise<boolean> {
  return access(path, constants.W_OK | constants.X_OK).then(
    () => true,
    () => false,
  );
}
