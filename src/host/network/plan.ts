import { createHash } from 'node:crypto';
import { BangerError } from '../../errors.ts';
import { addressText, macOf, parseAddress, parseSubnet } from './addresses.ts';

/** Everything that the host is to have for the networks of one owner's VMs; it is made so, whatever it was before. */
export interface HostNetwork {
  readonly owner: NetworkOwner;
  readonly bridges: readonly BridgePlan[];
}

/** Who bridges, taps and rules belong to: one state directory, or one user for whom the host was set up. */
export interface NetworkOwner {
  /** Four hex digits in every name, since those of interfaces are short */
  readonly tag: string;
  /** What interfaces of ours say about themselves: a name alone may be somebody else's */
  readonly alias: string;
  /** Who may open the taps, besides root */
  readonly uid: number;
}

/** One network: a bridge with the host as its gateway. */
export interface BridgePlan {
  /** 1 to 254 */
  readonly number: number;
  /** A /24 */
  readonly subnet: string;
  /** Whether its guests reach each other */
  readonly isShared: boolean;
  /** Addresses of guests that there are: their taps let them through */
  readonly guests: readonly string[];
  /** Addresses whose taps are there for the guests to come, and let nobody through */
  readonly spare: readonly string[];
  /** Those of the guests that reach nothing beyond their network */
  readonly held?: readonly string[];
  /** Whether each guest has a second tap, by which it reaches nothing beyond: for a VMM's owner who cannot change rules */
  readonly hasHeldTaps?: boolean;
  /** Who may open a guest's tap, by its address, where that is a user of its own; the owner where it is not here */
  readonly tapUsers?: Readonly<Record<string, number>>;
}

/** Networks that there always are, and names of which docker's users would expect something else. */
export const reservedNetworkNames: readonly string[] = ['user', 'none', 'bridge', 'host', 'default', 'all'];

/** Every bridge of ours, whoever's it is, begins so; guests of one never reach those of another. */
export const bridgePrefix = 'bgb';
export const tapPrefix = 'bgt';
/** Taps whose guests reach nothing beyond their network, whatever was decided since they were made. */
export const heldTapPrefix = 'bgh';

/** Port of the host's address on a shared network at which its guests' questions for names, sent to port 53, arrive. */
export const resolverPort = 10_053;

export function networkOwner(key: string, uid: number): NetworkOwner {
  const digest = createHash('sha256').update(key).digest('hex');
  return { tag: digest.slice(0, 4), alias: `banger-${digest.slice(0, 16)}`, uid };
}

export function bridgeName({ tag }: Pick<NetworkOwner, 'tag'>, number: number): string {
  return `${bridgePrefix}${checkTag(tag)}-${checkNumber(number)}`;
}

/** The tap of an address: known without being told, so that it can be found by whoever cleans up. */
export function tapName(owner: Pick<NetworkOwner, 'tag'>, number: number, address: string): string {
  return tapNamed(tapPrefix, owner, { number, address });
}

/** The second tap of an address, where there is one. */
export function heldTapName(owner: Pick<NetworkOwner, 'tag'>, number: number, address: string): string {
  return tapNamed(heldTapPrefix, owner, { number, address });
}

function tapNamed(
  prefix: string,
  { tag }: Pick<NetworkOwner, 'tag'>,
  { number, address }: { readonly number: number; readonly address: string },
): string {
  const parsed = parseAddress(address);
  if (parsed === undefined) throw unfit(`"${address}" is no address`);
  return `${prefix}${checkTag(tag)}-${checkNumber(number)}-${parsed % 256}`;
}

/** Names of all taps of an address. */
export function tapsOf(
  owner: Pick<NetworkOwner, 'tag'>,
  { number, hasHeldTaps }: Pick<BridgePlan, 'number' | 'hasHeldTaps'>,
  address: string,
): string[] {
  const open = tapName(owner, number, address);
  return hasHeldTaps ? [open, heldTapName(owner, number, address)] : [open];
}

export function tableName({ tag }: Pick<NetworkOwner, 'tag'>): string {
  return `banger_${checkTag(tag)}`;
}

/** The host's own address on a network. */
export function gatewayOf(subnet: string): string {
  return hostAddress(subnet, 1);
}

export function hostAddress(subnet: string, number: number): string {
  return addressText(parseSubnet(checkSubnet(subnet))!.first + number);
}

/** What a tap lets through: these words go into rules as they are. */
export interface GuestCard {
  readonly tap: string;
  readonly mac: string;
  readonly address: string;
  /** Only to and from its network */
  readonly isHeld: boolean;
}

/** Those of all guests of a network. */
export function guestCards(owner: NetworkOwner, bridge: BridgePlan): GuestCard[] {
  const { number, guests, held = [] } = bridge;
  return guests.flatMap((address) =>
    tapsOf(owner, bridge, address).map((tap) => ({
      tap,
      mac: macOf(address),
      address,
      isHeld: tap !== tapName(owner, number, address) || held.includes(address),
    })),
  );
}

/** What goes into commands and rules is checked where it is put into words: a mistake elsewhere must not become one of root's. */
function checkTag(tag: string): string {
  if (/^[0-9a-f]{4}$/.test(tag)) return tag;
  throw unfit(`"${tag}" is no tag`);
}

function checkNumber(number: number): number {
  if (Number.isInteger(number) && number >= 1 && number <= 254) return number;
  throw unfit(`${number} is no network's number`);
}

export function checkSubnet(subnet: string): string {
  if (parseSubnet(subnet)?.prefix === 24) return subnet;
  throw unfit(`"${subnet}" is no network of 256 addresses`);
}

export function checkAlias(alias: string): string {
  if (/^banger-[0-9a-f]{16}$/.test(alias)) return alias;
  throw unfit(`"${alias}" is no owner's mark`);
}

export function checkUid(uid: number): number {
  if (Number.isInteger(uid) && uid >= 0 && uid < 2 ** 32 - 1) return uid;
  throw unfit(`${uid} is no user id`);
}

function unfit(what: string): BangerError {
  return new BangerError('internal', `The network cannot be planned: ${what}`);
}
