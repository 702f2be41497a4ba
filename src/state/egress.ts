import { BangerError } from '../errors.ts';
import {
  formatIpAddress,
  formatIpNetwork,
  isInNetwork,
  networkOf,
  parseIpAddress,
  parseIpNetwork,
  type IpAddress,
  type IpNetwork,
} from './ip-address.ts';

/** Ports that a rule is about, both ends included. */
export interface PortRange {
  readonly first: number;
  readonly last: number;
}

/** Something that a guest may reach. */
export interface EgressRule {
  /** As it is stored and shown, and what tells two rules apart */
  readonly text: string;
  /** A network; absent in a rule about names */
  readonly network?: IpNetwork;
  /** A name in lower case, `*.` and a name for all below it, or `*` for all; absent in a rule about a network */
  readonly domain?: string;
  /** Absent: all */
  readonly ports?: PortRange;
  readonly protocol: 'tcp' | 'udp';
}

/** What a guest may reach outside: everything, or what rules name. No rules: nothing. */
export type EgressPolicy =
  { readonly kind: 'all' } | { readonly kind: 'rules'; readonly rules: readonly EgressRule[] };

export const egressAll: EgressPolicy = { kind: 'all' };

/** More would be a list that nobody reads, and each is compared with each connection. */
const maxRules = 500;
const forms =
  'a network (10.0.0.0/8), an address, or a name (git.example.org, *.example.org), with :PORT if need be';

/**
 * Parses what a user allows: `all`, `none`, or rules, in one text with commas or in several.
 * Throws `invalid_argument`. A rule that is given twice counts once.
 */
export function parseEgress(texts: readonly string[]): EgressPolicy {
  const words = texts.flatMap((text) => text.split(',')).map((word) => word.trim());
  const whole = words.find((word) => word === 'all' || word === 'none');
  if (whole !== undefined) {
    if (words.some((word) => word !== whole))
      throw refusal(`"${whole}" is said alone, not together with "${words.find((word) => word !== whole)!}"`);
    return whole === 'all' ? egressAll : { kind: 'rules', rules: [] };
  }
  if (words.length === 0) throw refusal('Say what may be reached: all, none, or rules');
  const rules = new Map(words.map(parseEgressRule).map((rule) => [rule.text, rule]));
  if (rules.size > maxRules) throw refusal(`${rules.size} rules are too many: a VM may have ${maxRules}`);
  return { kind: 'rules', rules: [...rules.values()] };
}

/** What becomes of rules that are there when others are given. */
export type EgressChange = 'replace' | 'add' | 'remove';

/** Throws `invalid_argument` when that makes no sense: rules beside `all`, or one to be removed that is not there. */
export function changedEgress(before: EgressPolicy, given: EgressPolicy, change: EgressChange): EgressPolicy {
  if (change === 'replace') return given;
  if (given.kind === 'all' || given.rules.length === 0)
    throw refusal(
      '"all" and "none" are not rules that can be added or removed',
      'Leave out --add and --remove',
    );
  if (before.kind === 'all')
    throw refusal(
      'Everything may be reached: there are no rules to add to or remove from',
      'Leave out --add and --remove',
    );
  if (change === 'add') return parseEgress([...before.rules, ...given.rules].map(({ text }) => text));
  const missing = given.rules.find(({ text }) => !before.rules.some((rule) => rule.text === text));
  if (missing)
    throw refusal(`There is no rule "${missing.text}"`, `There are: ${egressWords(before).join(', ')}`);
  const removed = new Set(given.rules.map(({ text }) => text));
  return { kind: 'rules', rules: before.rules.filter(({ text }) => !removed.has(text)) };
}

/** The words of a policy, for people and for `parseEgress`. */
export function egressWords(policy: EgressPolicy): string[] {
  if (policy.kind === 'all') return ['all'];
  return policy.rules.length === 0 ? ['none'] : policy.rules.map(({ text }) => text);
}

/** A place with a port or without, or IPv6 without brackets, of which no port can be told apart; then a protocol. */
const rulePattern =
  /^(?:(\[[^\]]*\](?:\/\d+)?|[^:[\]]*?)(?::([\d-]+))?|([^[\]]*:[^[\]]*:[^[\]]*?))(?:\/([a-z]+))?$/i;

/** The same in one text. */
export function formatEgress(policy: EgressPolicy): string {
  return egressWords(policy).join(',');
}

/** Parses `git.example.org`, `*.example.org:443`, `10.0.0.0/8`, `1.2.3.4:22/tcp` or `[2001:db8::/32]:443`. */
export function parseEgressRule(text: string): EgressRule {
  const [, before, portText, ipv6, protocolText] = rulePattern.exec(text) ?? [];
  const place = before ?? ipv6 ?? '';
  if (place === '') throw refusal(`"${text}" is no rule: it takes ${forms}`);
  const protocol = protocolText?.toLowerCase() ?? 'tcp';
  if (protocol !== 'tcp' && protocol !== 'udp')
    throw refusal(`"${protocolText}" in "${text}" is not tcp or udp`);
  const ports = portText === undefined ? undefined : parsePorts(portText, text);
  const suffix = `${ports ? `:${portsText(ports)}` : ''}${protocol === 'udp' ? '/udp' : ''}`;
  const network = parsePlace(place, text);
  if (network) {
    const words = formatIpNetwork(network);
    return {
      text: `${words.includes(':') && suffix ? `[${words}]` : words}${suffix}`,
      network,
      ports,
      protocol,
    };
  }
  const domain = parseDomain(place, text);
  return { text: `${domain}${suffix}`, domain, ports, protocol };
}

function parsePlace(place: string, text: string): IpNetwork | undefined {
  const bare = place.replace(/^\[(.*)\]/, '$1');
  const network = parseIpNetwork(bare);
  if (!network) {
    if (bare !== place || /[/:]/.test(bare)) throw refusal(`"${place}" in "${text}" is not a network`);
    return undefined;
  }
  const clean = networkOf(network);
  if (clean.address.value !== network.address.value)
    throw refusal(`"${text}" has bits behind its prefix: write "${formatIpNetwork(clean)}"`);
  return clean;
}

function parsePorts(words: string, text: string): PortRange {
  const [first, last = first, ...rest] = words.split('-').map(Number);
  const isPort = (port: number | undefined): port is number =>
    Number.isInteger(port) && port! >= 1 && port! <= 65_535;
  if (rest.length > 0 || !isPort(first) || !isPort(last) || first > last)
    throw refusal(`"${words}" in "${text}" is not a port from 1 to 65535, nor two with "-" between`);
  return { first, last };
}

function portsText({ first, last }: PortRange): string {
  return first === last ? String(first) : `${first}-${last}`;
}

function parseDomain(place: string, text: string): string {
  if (place === '*') return place;
  const isWildcard = place.startsWith('*.');
  const host = parseHost(isWildcard ? place.slice(2) : place);
  if (host && 'name' in host) return `${isWildcard ? '*.' : ''}${host.name}`;
  if (host) throw refusal(`"${place}" means the address ${formatIpAddress(host.address)}: write that`);
  throw refusal(`"${text}" is no rule: it takes ${forms}`);
}

/** Who a program wants to talk to: by address or by name. */
export type EgressHost = { readonly address: IpAddress } | { readonly name: string };

/**
 * Makes one of the many ways to write a host: `127.1`, `0x7f000001` and `2130706433` are addresses, names are in lower
 * case, in ASCII and without the dot at their end. Undefined when it can be neither.
 */
export function parseHost(text: string): EgressHost | undefined {
  const bare = text.replace(/^\[(.*)\]$/, '$1');
  const literal = parseIpAddress(bare);
  if (literal) return { address: literal };
  if (/[/:?#@\\%\s[\]]/.test(text)) return undefined;
  const hostname = urlHostname(text)?.replace(/\.$/, '');
  if (hostname === undefined || hostname === '') return undefined;
  const address = parseIpAddress(hostname);
  if (address) return { address };
  const label = /^(?!-)[a-z0-9_-]{1,63}(?<!-)$/;
  const isName = hostname.length <= 253 && hostname.split('.').every((one) => label.test(one));
  return isName ? { name: hostname } : undefined;
}

/** What web browsers make of a host, which is what no program can be cleverer about. */
function urlHostname(text: string): string | undefined {
  return URL.canParse(`http://${text}/`) ? new URL(`http://${text}/`).hostname : undefined;
}

/** The first rule that lets a name be looked up, to talk to this port of what it means. */
export function findDomainRule(policy: EgressPolicy, name: string, port: number): EgressRule | undefined {
  return findRule(policy, port, ({ domain }) => {
    if (domain === undefined) return false;
    if (domain === '*' || domain === name) return true;
    return domain.startsWith('*.') && name.endsWith(domain.slice(1)) && name.length > domain.length - 1;
  });
}

/** The first rule that names a network with this address. */
export function findNetworkRule(
  policy: EgressPolicy,
  address: IpAddress,
  port: number,
): EgressRule | undefined {
  return findRule(policy, port, ({ network }) => network !== undefined && isInNetwork(address, network));
}

function findRule(
  policy: EgressPolicy,
  port: number,
  isAbout: (rule: EgressRule) => boolean,
): EgressRule | undefined {
  if (policy.kind === 'all') return undefined;
  return policy.rules.find(
    (rule) =>
      rule.protocol === 'tcp' &&
      (!rule.ports || (rule.ports.first <= port && port <= rule.ports.last)) &&
      isAbout(rule),
  );
}

function refusal(what: string, hint?: string): BangerError {
  return new BangerError('invalid_argument', what, { hint });
}
