import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import * as z from 'zod/mini';
import { BangerError, errnoOf, errorText } from '../../../errors.ts';
import type { Exec } from '../../../host/exec.ts';
import type { Log } from '../../log.ts';

/** What docker has stored for a registry. Never goes into a message or a log. */
export type Credentials =
  | { readonly kind: 'password'; readonly username: string; readonly password: string }
  /** An OAuth refresh token, exchanged at the registry's token service */
  | { readonly kind: 'identity-token'; readonly token: string };

/** Finds the credentials for a registry host, such as `docker.io` or `localhost:5000`. */
export type FindCredentials = (registry: string, signal: AbortSignal) => Promise<Credentials | undefined>;

export interface DockerAuthInput {
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly home: string;
  readonly exec: Exec;
  readonly log: Log;
}

/** Go, and so docker, reads `null` as what is not there. */
const text = z.nullish(z.string());
const authEntry = z.object({ auth: text, username: text, password: text, identitytoken: text });
const configSchema = z.object({
  auths: z.nullish(z.record(z.string(), z.nullable(authEntry))),
  credsStore: text,
  credHelpers: z.nullish(z.record(z.string(), text)),
});
type DockerConfig = z.output<typeof configSchema>;

const helperAnswer = z.object({ Username: z.string(), Secret: z.string() });

/** The key under which docker keeps its own registry, for historical reasons a URL. */
const hubKey = 'https://index.docker.io/v1/';
/** User name by which helpers say that the secret is an identity token. */
const tokenUser = '<token>';
const helperTimeoutMs = 30_000;

/** Looks credentials up where `docker login` leaves them: in its config file, or with the helpers named there. */
export function dockerCredentials(input: DockerAuthInput): FindCredentials {
  const directory = input.env['DOCKER_CONFIG'] || join(input.home, '.docker');
  return async (registry, signal) => {
    const config = await readConfig(join(directory, 'config.json'));
    const serverKey = registry === 'docker.io' ? hubKey : registry;
    const helper = config.credHelpers?.[registry] ?? config.credHelpers?.[serverKey] ?? config.credsStore;
    const found = helper ? await askHelper(input, helper, serverKey, signal) : undefined;
    return found ?? fromAuths(config, registry);
  };
}

async function readConfig(file: string): Promise<DockerConfig> {
  let text: string;
  try {
    text = await readFile(file, 'utf8');
  } catch (error) {
    // No file, or one that is not ours to read: docker was never logged in here.
    if (['ENOENT', 'ENOTDIR', 'EACCES'].includes(errnoOf(error) ?? '')) return {};
    throw error;
  }
  const parsed = configSchema.safeParse(parseJson(text));
  if (parsed.success) return parsed.data;
  throw new BangerError('invalid_argument', `"${file}" is not a docker configuration`, {
    hint: `Correct it, or write a new one with: docker login`,
  });
}

/** A helper that is missing or has nothing is no reason to fail: most images need no login. */
async function askHelper(
  { exec, log }: DockerAuthInput,
  helper: string,
  serverKey: string,
  signal: AbortSignal,
): Promise<Credentials | undefined> {
  // The name becomes part of a program's name, so it must not be able to be a path.
  if (!/^[a-z0-9-]+$/.test(helper)) {
    log('warn', 'credential helper ignored: not a plain name', { registry: serverKey });
    return undefined;
  }
  try {
    const program = `docker-credential-${helper}`;
    const options = { input: serverKey, signal, timeoutMs: helperTimeoutMs, okExitCodes: [1] };
    const { exitCode, stdout } = await exec([program, 'get'], options);
    if (exitCode !== 0) return undefined;
    const answer = helperAnswer.safeParse(parseJson(stdout.toString('utf8')));
    if (!answer.success || answer.data.Secret === '') return undefined;
    const { Username: username, Secret: secret } = answer.data;
    if (username === tokenUser) return { kind: 'identity-token', token: secret };
    return { kind: 'password', username, password: secret };
  } catch (error) {
    if (signal.aborted) throw error;
    log('warn', 'credential helper did not answer', { helper, registry: serverKey, error: errorText(error) });
    return undefined;
  }
}

function fromAuths(config: DockerConfig, registry: string): Credentials | undefined {
  const wanted = registry === 'docker.io' ? ['index.docker.io', 'docker.io'] : [registry];
  for (const [key, entry] of Object.entries(config.auths ?? {})) {
    if (!entry || !wanted.includes(hostOfKey(key))) continue;
    if (entry.identitytoken) return { kind: 'identity-token', token: entry.identitytoken };
    const decoded = entry.auth ? Buffer.from(entry.auth, 'base64').toString('utf8') : undefined;
    const colon = decoded?.indexOf(':') ?? -1;
    const username = decoded && colon > 0 ? decoded.slice(0, colon) : entry.username;
    // Docker pads the decoded text with zeros.
    const password = decoded && colon > 0 ? decoded.slice(colon + 1).replace(/\0+$/, '') : entry.password;
    if (username && password) return { kind: 'password', username, password };
  }
  return undefined;
}

/** Keys are hosts or, from older dockers, URLs. */
function hostOfKey(key: string): string {
  return key.replace(/^https?:\/\//, '').replace(/\/.*$/, '');
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    // Not JSON is not a docker config or answer either: the schema says so next.
    return undefined;
  }
}
