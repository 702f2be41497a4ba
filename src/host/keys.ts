import { generateKeyPairSync } from 'node:crypto';
import { readFile, rm, rmdir } from 'node:fs/promises';
import { dirname } from 'node:path';
import ssh2 from 'ssh2';
import { errnoOf } from '../errors.ts';
import { writeFileAtomic } from './files.ts';

/** An SSH host key made for one guest, so that it is known before the first contact. */
export interface HostKey {
  /** Private key file as dropbear reads it: string "ssh-ed25519", string of seed and public key (dropbear's ed25519.c) */
  readonly dropbear: Buffer;
  /** `ssh-ed25519 AAAA…`, OpenSSH's one-line format */
  readonly publicLine: string;
}

export function generateHostKey(): HostKey {
  const { privateKey } = generateKeyPairSync('ed25519');
  const { d, x } = privateKey.export({ format: 'jwk' });
  const seed = Buffer.from(d!, 'base64url');
  const publicKey = Buffer.from(x!, 'base64url');
  const blob = Buffer.concat([sshString('ssh-ed25519'), sshString(publicKey)]);
  return {
    dropbear: Buffer.concat([sshString('ssh-ed25519'), sshString(Buffer.concat([seed, publicKey]))]),
    publicLine: `ssh-ed25519 ${blob.toString('base64')}`,
  };
}

/** The key blob of a one-line public key, as servers present it. */
export function publicKeyBlob(publicLine: string): Buffer {
  return Buffer.from(publicLine.split(' ')[1] ?? '', 'base64');
}

/** The key pair by which guests know us. */
export interface ClientKey {
  /** OpenSSH private key file */
  readonly privatePem: string;
  readonly publicLine: string;
}

/** Reads our key pair, made on first use with mode 0600. An existing key is never replaced. */
export async function ensureClientKey(path: string): Promise<ClientKey> {
  const existing = await readIfPresent(path);
  if (existing !== undefined) return parseClientKey(existing);
  const pair = generateClientKey();
  try {
    await writeFileAtomic(`${path}.pub`, `${pair.public}\n`, 0o644);
    await writeFileAtomic(path, pair.private, 0o600);
  } catch (error) {
    // Half a pair is none. A directory that holds anything else stays.
    await rm(`${path}.pub`, { force: true }).catch(() => undefined);
    await rmdir(dirname(path)).catch(() => undefined);
    throw error;
  }
  return { privatePem: pair.private, publicLine: pair.public };
}

/** Some of the keys that ssh2 1.17.0 makes it cannot read itself ("Malformed OpenSSH private key"): those are made again. */
function generateClientKey(): { readonly private: string; readonly public: string } {
  for (;;) {
    const pair = ssh2.utils.generateKeyPairSync('ed25519', { comment: 'banger' });
    if (!(ssh2.utils.parseKey(pair.private) instanceof Error)) return pair;
  }
}

function parseClientKey(privatePem: string): ClientKey {
  const parsed = ssh2.utils.parseKey(privatePem);
  if (parsed instanceof Error) throw parsed;
  const key = Array.isArray(parsed) ? parsed[0]! : parsed;
  return { privatePem, publicLine: `${key.type} ${key.getPublicSSH().toString('base64')} banger` };
}

/** RFC 4251 string: four bytes of length, then the bytes. */
function sshString(value: string | Buffer): Buffer {
  const bytes = Buffer.from(value);
  const length = Buffer.alloc(4);
  length.writeUInt32BE(bytes.length);
  return Buffer.concat([length, bytes]);
}

async function readIfPresent(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return undefined;
    throw error;
  }
}
