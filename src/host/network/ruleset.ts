import {
  bridgeName,
  bridgePrefix,
  checkSubnet,
  gatewayOf,
  guestCards,
  heldTapPrefix,
  resolverPort,
  tableName,
  tapPrefix,
  type BridgePlan,
  type HostNetwork,
  type NetworkOwner,
} from './plan.ts';

/**
 * The rules for a host's networks, for `nft -f -`: two tables of our own, replaced as a whole in one transaction, so
 * that there is no moment without them. No table of anybody else's is named.
 *
 * A rule of ours can refuse what another firewall allows, never the other way round.
 */
export function ruleset({ owner, bridges }: HostNetwork): string {
  const cards = bridges.flatMap((bridge) => guestCards(owner, bridge));
  const held = cards.filter(({ isHeld }) => isHeld);
  const table = tableName(owner);
  const bridge = `${bridgePrefix}${owner.tag}-*`;
  // Each in a rule of its own: nftables before 1.0.3 knows no wildcards in sets.
  const [taps, heldTaps] = [tapPrefix, heldTapPrefix].map((prefix) => `${prefix}${owner.tag}-*`);
  return `${clear(owner)}
table bridge ${table} {
  set guests {
    type ifname . ether_addr . ipv4_addr
${elements(cards.map(({ tap, mac, address }) => `"${tap}" . ${mac} . ${address}`))}  }

  set held {
    type ifname
${elements(held.map(({ tap }) => `"${tap}"`))}  }

  chain ingress {
    type filter hook prerouting priority -300; policy accept;
    iifname "${taps}" jump from_guest
    iifname "${heldTaps}" jump from_guest
  }

  chain egress {
    type filter hook postrouting priority 300; policy accept;
    oifname @held jump to_held
  }

  # A guest speaks for itself only: by its own MAC and address, IPv4 and ARP, and gives nobody addresses.
  chain from_guest {
    iifname @held jump from_held
    ether type ip udp sport 67 drop
    ether type ip iifname . ether saddr . ip saddr @guests accept
    ether type arp iifname . ether saddr . arp saddr ip @guests iifname . arp saddr ether . arp saddr ip @guests accept
    drop
  }

  # It stays within its network, of which the host's address there is part. Options may name another way.
  chain from_held {
    ether type arp return
    ip hdrlength != 5 drop
${heldRules(owner, bridges, 'from')}    drop
  }

  # Whoever is beyond had answers to what began before it was held.
  chain to_held {
    ether type arp accept
${heldRules(owner, bridges, 'to')}    drop
  }
}

table inet ${table} {
  set guests {
    type ipv4_addr
${elements([...new Set(cards.map(({ address }) => address))])}  }

  # How often each of them asks for names.
  set asking {
    type ipv4_addr
    size 65535
    flags dynamic,timeout
    timeout 10s
  }

  chain forward {
    type filter hook forward priority filter; policy accept;
    iifname "${bridge}" jump from_guests
    oifname "${bridge}" jump to_guests
  }

  chain from_guests {
    meta nfproto ipv6 drop
${sharedRules(owner, bridges)}    # What somebody else publishes at any address of the host is a service of the host, though it is passed on.
    ct direction original ct status dnat drop
    oifname "${bridgePrefix}*" drop
    ip saddr != @guests drop
    ct state invalid drop
  }

  # From beyond the host, guests get answers only: what is published comes through their VMM.
  chain to_guests {
${sharedRules(owner, bridges)}    ct state established,related accept
    drop
  }

  chain input {
    type filter hook input priority filter; policy accept;
    # What is sent to a bridge's own protocols (01:80:c2:00:00:0x) comes by the tap itself, past the rules for frames.
    iifname "${taps}" drop
    iifname "${heldTaps}" drop
    iifname "${bridge}" jump to_host
  }

  # Services of the host are none of its guests' business, but for names within a network.
  chain to_host {
    meta nfproto ipv6 drop
    # Each question is work for the engine, which is everybody's.
    ct status dnat udp dport ${resolverPort} update @asking { ip saddr limit rate over 200/second burst 200 packets } drop
    ct state established,related accept
    ct status dnat meta l4proto { tcp, udp } th dport ${resolverPort} accept
    icmp type echo-request limit rate 20/second accept
    reject with icmpx type admin-prohibited
  }

  # Listening on port 53 itself would take root, and a port that others of the host may have.
  chain prerouting {
    type nat hook prerouting priority dstnat; policy accept;
${resolverRules(owner, bridges)}  }

  chain postrouting {
    type nat hook postrouting priority srcnat; policy accept;
    ip saddr @guests oifname != "${bridgePrefix}*" masquerade
  }
}
`;
}

/** By network, to all of whose taps it applies: of those that are not held nobody asks. What calls to all goes no further. */
function heldRules(owner: NetworkOwner, bridges: readonly BridgePlan[], way: 'from' | 'to'): string {
  const [own, other, verdict] =
    way === 'from' ? ['iifname', 'daddr', 'return'] : ['oifname', 'saddr', 'accept'];
  return bridges
    .flatMap(({ number, subnet }) => {
      const places =
        way === 'from' ? `{ ${checkSubnet(subnet)}, 224.0.0.0/24, 255.255.255.255 }` : checkSubnet(subnet);
      return [tapPrefix, heldTapPrefix].map(
        (prefix) => `    ${own} "${prefix}${owner.tag}-${number}-*" ip ${other} ${places} ${verdict}\n`,
      );
    })
    .join('');
}

/** What removes our tables, whether they are there or not. */
export function clearRuleset(owner: NetworkOwner): string {
  return `${clear(owner)}`;
}

/** To delete a table that is not there is an error: it is made first. */
function clear(owner: NetworkOwner): string {
  return ['bridge', 'inet']
    .flatMap((family) => [
      `table ${family} ${tableName(owner)}`,
      `delete table ${family} ${tableName(owner)}`,
    ])
    .map((line) => `${line}\n`)
    .join('');
}

function elements(words: readonly string[]): string {
  return words.length === 0 ? '' : `    elements = { ${words.join(',\n                 ')} }\n`;
}

/** Guests of shared networks ask the host's address there for names. */
function resolverRules(owner: NetworkOwner, bridges: readonly BridgePlan[]): string {
  return bridges
    .filter(({ isShared }) => isShared)
    .map(
      ({ number, subnet }) =>
        `    iifname "${bridgeName(owner, number)}" ip daddr ${gatewayOf(subnet)} meta l4proto { tcp, udp } th dport 53 redirect to :${resolverPort}\n`,
    )
    .join('');
}

/** Where bridged frames pass through here (br_netfilter), those within a shared network are no traffic between networks. */
function sharedRules(owner: NetworkOwner, bridges: readonly BridgePlan[]): string {
  return bridges
    .filter(({ isShared }) => isShared)
    .map(({ number }) => bridgeName(owner, number))
    .map((name) => `    iifname "${name}" oifname "${name}" accept\n`)
    .join('');
}
