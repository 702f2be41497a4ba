import { BangerError } from '../../../errors.ts';
import type { HostGit } from './host-git.ts';

/** What git is configured to, by lower-case name (subsections keep their case): all values of each, the last one counts. */
export type GitConfig = ReadonlyMap<string, readonly string[]>;

/** Parses `git config --list -z`. */
export function parseGitConfig(output: Buffer): GitConfig {
  return configOf(output.toString('utf8').split('\0'));
}

export interface ScopedConfig {
  readonly config: GitConfig;
  /** Who the user is in all repositories; absent when what is said of that depends on the repository */
  readonly general?: ReadonlyMap<string, string>;
}

/** Parses `git config --list --show-scope -z`. */
export function parseScopedConfig(output: Buffer): ScopedConfig {
  const all: string[] = [];
  const shared: string[] = [];
  const fields = output.toString('utf8').split('\0');
  for (let at = 0; at + 1 < fields.length; at += 2) {
    all.push(fields[at + 1]!);
    if (fields[at] === 'system' || fields[at] === 'global') shared.push(fields[at + 1]!);
  }
  const isConditional = shared.some((entry) => entry.startsWith('includeif.'));
  return { config: configOf(all), general: isConditional ? undefined : identityOf(configOf(shared)) };
}

function configOf(entries: readonly string[]): GitConfig {
  const config = new Map<string, string[]>();
  for (const entry of entries) {
    if (entry === '') continue;
    const newline = entry.indexOf('\n');
    // A name without a value, as in a bare `autocrlf`, means true.
    const name = newline === -1 ? entry : entry.slice(0, newline);
    const value = newline === -1 ? 'true' : entry.slice(newline + 1);
    config.set(name, [...(config.get(name) ?? []), value]);
  }
  return config;
}

/**
 * Settings that switch off every configured filter driver (LFS and the like): their programs belong to the
 * host, and the guest is to compare the bytes it was sent.
 */
export function withoutFilters(config: GitConfig): [name: string, value: string][] {
  const drivers = new Set<string>();
  for (const name of config.keys()) {
    const match = /^(filter\.[^]+)\.(?:clean|smudge|process|required)$/.exec(name);
    if (match) drivers.add(match[1]!);
  }
  return [...drivers].flatMap((driver): [string, string][] => [
    [`${driver}.clean`, ''],
    [`${driver}.smudge`, ''],
    [`${driver}.process`, ''],
    [`${driver}.required`, 'false'],
  ]);
}

const identityNames = ['user.name', 'user.email'];

/** Who the user is in repositories that say nothing of it. `git` runs in a directory that is in none. */
export async function generalIdentity(git: HostGit): Promise<Map<string, string>> {
  let output: Buffer;
  try {
    output = (await git(['config', '--list', '-z'])).stdout;
  } catch (error) {
    // No git, or a configuration that it refuses: who needs it will hear of it.
    if (error instanceof BangerError && ['host_unsupported', 'command_failed'].includes(error.code))
      return new Map();
    throw error;
  }
  return identityOf(parseGitConfig(output));
}

function identityOf(config: GitConfig): Map<string, string> {
  return new Map(
    identityNames.flatMap((name) => {
      const value = config.get(name)?.at(-1);
      return value === undefined || value === '' ? [] : [[name, value]];
    }),
  );
}

/** A repository's configuration without what it says of the user that holds for all of them. */
export function withoutGeneralIdentity(config: GitConfig, general: ReadonlyMap<string, string>): GitConfig {
  return new Map([...config].filter(([name, values]) => general.get(name) !== values.at(-1)));
}

/** The remote that a partial clone gets what it lacks from; absent in a complete one. */
export function promisorRemote(config: GitConfig): string | undefined {
  for (const [name, values] of config) {
    const match = /^remote\.([^]+)\.promisor$/.exec(name);
    if (match && /^(?:true|yes|on|1)$/i.test(values.at(-1)!)) return match[1];
  }
  return config.get('extensions.partialclone')?.at(-1);
}

/** How the guest's copy of the repository is set up. */
export interface GuestRepository {
  readonly objectFormat: string;
  readonly branch?: string;
  /** Path of the files, where git does not find them by itself */
  readonly worktree?: string;
  /** Values visible to the repository on the host */
  readonly config: GitConfig;
}

/**
 * Settings that travel: how working files compare to what git stores, which must be equal on both sides, and how
 * git shows and orders things, so that it answers as it does at home. None of them runs a program or names a file
 * of the host, and none has values that an older git in the guest refuses; all others stay behind.
 */
const carriedSettings = new Set([
  ...'filemode symlinks autocrlf eol sparsecheckout sparsecheckoutcone quotepath abbrev whitespace bigfilethreshold'
    .split(' ')
    .map((name) => `core.${name}`),
  ...'algorithm context indentheuristic interhunkcontext mnemonicprefix noprefix renamelimit renames ignoresubmodules submodule suppressblankempty relative srcprefix dstprefix'
    .split(' ')
    .map((name) => `diff.${name}`),
  ...'branch short showstash showuntrackedfiles submodulesummary relativepaths renames renamelimit aheadbehind displaycommentprefix'
    .split(' ')
    .map((name) => `status.${name}`),
  ...['merge.ff', 'merge.renames', 'pull.ff', 'pull.rebase', 'push.default'],
  ...[
    'advice.statushints',
    'rebase.autosquash',
    'rebase.autostash',
    'log.date',
    'commit.verbose',
    'column.ui',
    'column.status',
  ],
  ...['user.name', 'user.email'],
]);

/** Parts of a diff driver that are patterns; its programs stay behind. */
const carriedDriverSetting = /^diff\.[^]+\.(?:xfuncname|funcname|wordregex|binary)$/;

/** The text of the guest's `.git/config`: a fixed set of values, nothing that runs a program. */
export function guestConfigText({ objectFormat, branch, worktree, config }: GuestRepository): string {
  const isDefaultFormat = objectFormat === 'sha1';
  const promisor = promisorRemote(config);
  const fixed: [string, string | undefined][] = [
    ['core.repositoryformatversion', isDefaultFormat && promisor === undefined ? '0' : '1'],
    ['core.bare', 'false'],
    ['core.worktree', worktree],
    ['core.logallrefupdates', 'true'],
    // The index comes with sizes and times of the host's files, which these have too: git need not read them all.
    ['core.checkstat', 'minimal'],
    ['core.trustctime', 'false'],
    ['extensions.objectformat', isDefaultFormat ? undefined : objectFormat],
    ['extensions.partialclone', promisor],
  ];
  const carried = [...config].flatMap(([name, values]): [string, string | undefined][] =>
    carriedSettings.has(name) || carriedDriverSetting.test(name) ? [[name, values.at(-1)]] : [],
  );
  return configText([...fixed, ...carried, ...remoteSettings(config, branch), ...submoduleSettings(config)]);
}

/** `origin`, where the branch comes from, and where a partial clone gets what it lacks. */
function remoteSettings(config: GitConfig, branch: string | undefined): [string, string | undefined][] {
  const last = (name: string): string | undefined => config.get(name)?.at(-1);
  const remote = branch === undefined ? undefined : last(`branch.${branch}.remote`);
  const settings: [string, string | undefined][] = [];
  for (const name of new Set(['origin', remote, promisorRemote(config)])) {
    const url = last(`remote.${name}.url`);
    if (name === undefined || url === undefined) continue;
    settings.push([`remote.${name}.url`, withoutCredentials(url)]);
    for (const refspec of config.get(`remote.${name}.fetch`) ?? []) {
      settings.push([`remote.${name}.fetch`, refspec]);
    }
    for (const key of ['promisor', 'partialclonefilter']) {
      settings.push([`remote.${name}.${key}`, last(`remote.${name}.${key}`)]);
    }
  }
  if (branch === undefined) return settings;
  // A remote may be given as a URL instead of a name.
  settings.push([`branch.${branch}.remote`, remote && withoutCredentials(remote)]);
  for (const merge of config.get(`branch.${branch}.merge`) ?? []) {
    settings.push([`branch.${branch}.merge`, merge]);
  }
  settings.push([`branch.${branch}.rebase`, last(`branch.${branch}.rebase`)]);
  return settings;
}

/** Which submodules are in use, where they come from, and what counts as a change of theirs; no programs. */
function submoduleSettings(config: GitConfig): [string, string][] {
  return [...config].flatMap(([name, values]): [string, string][] => {
    const key = /^submodule\.(?:[^]+\.)?(url|active|ignore|branch|update|recurse)$/.exec(name)?.[1];
    if (key === undefined || (key === 'update' && values.at(-1)!.startsWith('!'))) return [];
    return values.map((value) => [name, key === 'url' ? withoutCredentials(value) : value]);
  });
}

/**
 * A remote's URL without what logs somebody in: user and password of web URLs, the password of others, and
 * query strings. An scp-like `git@host:path` has no password.
 */
export function withoutCredentials(url: string): string {
  const match = /^([a-z][a-z0-9+.-]*:\/\/)([^/?#]*)([^]*)$/i.exec(url);
  if (!match) return url;
  const [, scheme, authority, rest] = match;
  const at = authority!.lastIndexOf('@');
  const host = authority!.slice(at + 1);
  const user = authority!.slice(0, Math.max(at, 0)).split(':')[0]!;
  const isWeb = /^(?:https?|ftps?):/i.test(scheme!);
  const path = isWeb ? rest!.replace(/[?#][^]*$/, '') : rest!;
  return `${scheme}${isWeb || user === '' ? '' : `${user}@`}${host}${path}`;
}

/** Writes settings as a configuration file, one section after the other; those without a value are left out. */
export function configText(
  settings: readonly (readonly [name: string, value: string | undefined])[],
): string {
  const lines = new Map<string, string[]>();
  for (const [name, value] of settings) {
    if (value === undefined || value === '') continue;
    const first = name.indexOf('.');
    const last = name.lastIndexOf('.');
    const subsection = first === last ? '' : ` "${escapeSubsection(name.slice(first + 1, last))}"`;
    const section = name.slice(0, first) + subsection;
    const line = `\t${name.slice(last + 1)} = ${quoteValue(value)}\n`;
    lines.set(section, [...(lines.get(section) ?? []), line]);
  }
  return [...lines].map(([section, each]) => `[${section}]\n${each.join('')}`).join('');
}

function quoteValue(value: string): string {
  const escaped = value
    .replace(/\0/g, '')
    .replace(/[\\"]/g, '\\$&')
    .replace(/\n/g, '\\n')
    .replace(/\t/g, '\\t');
  return `"${escaped}"`;
}

function escapeSubsection(name: string): string {
  return name.replace(/[\0\n]/g, '').replace(/[\\"]/g, '\\$&');
}
