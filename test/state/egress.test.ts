import fc from 'fast-check';
import { isIP } from 'node:net';
import { expect, test } from 'vitest';
import {
  egressWords,
  findDomainRule,
  findNetworkRule,
  parseEgress,
  parseEgressRule,
  parseHost,
} from '../../src/state/egress.ts';
import {
  formatIpAddress,
  isInNetwork,
  parseIpAddress,
  parseIpNetwork,
  specialPurpose,
} from '../../src/state/ip-address.ts';

const port = fc.integer({ min: 1, max: 65_535 });
const label = fc.stringMatching(/^[a-z0-9]([a-z0-9-]{0,10}[a-z0-9])?$/);
/** Names whose last part is no number: those would be addresses. */
const name = fc
  .tuple(fc.array(label, { minLength: 1, maxLength: 4 }), fc.stringMatching(/^[a-z]{2,8}$/))
  .map(([labels, top]) => [...labels, top].join('.'))
  .filter((text) => parseHost(text) !== undefined);
const suffix = fc.option(
  fc.oneof(
    port.map((one) => `:${one}`),
    fc.tuple(port, port).map(([one, other]) => `:${Math.min(one, other)}-${Math.max(one, other)}`),
  ),
  { nil: '' },
);

test('addresses are read and written as inet_ntop would', () => {
  fc.assert(
    fc.property(fc.oneof(fc.ipV4(), fc.ipV6()), (text) => {
      const address = parseIpAddress(text)!;
      const written = formatIpAddress(address);
      expect(isIP(written)).toBe(address.bits === 32 ? 4 : 6);
      expect(parseIpAddress(written)).toEqual(address);
      expect(isInNetwork(address, { address, prefix: address.bits })).toBe(true);
      expect(isInNetwork(address, { address: { ...address, value: 0n }, prefix: 0 })).toBe(true);
    }),
  );
  expect(parseIpAddress('::ffff:10.1.2.3')).toEqual(parseIpAddress('10.1.2.3'));
  expect(parseIpAddress('fe80::1%eth0')).toBeUndefined();
  expect(parseIpNetwork('10.0.0.0/33')).toBeUndefined();
});

test('a rule means the same when it is written as it is shown', () => {
  const network = fc
    .tuple(fc.oneof(fc.ipV4(), fc.ipV6()), fc.integer({ min: 0, max: 128 }))
    .map(([address, length]) => {
      const { bits, value } = parseIpAddress(address)!;
      const prefix = length % (bits + 1);
      const behind = BigInt(bits - prefix);
      const base = formatIpAddress({ bits, value: (value >> behind) << behind });
      return bits === 32 ? `${base}/${prefix}` : `[${base}/${prefix}]`;
    });
  const place = fc.oneof(
    network,
    name,
    name.map((text) => `*.${text}`),
    fc.constant('*'),
  );
  const protocol = fc.constantFrom('', '/tcp', '/udp');
  fc.assert(
    fc.property(place, suffix, protocol, (what, ports, over) => {
      const rule = parseEgressRule(`${what}${ports}${over}`);
      expect(parseEgressRule(rule.text)).toEqual(rule);
      expect(rule.protocol).toBe(over === '/udp' ? 'udp' : 'tcp');
    }),
  );
});

test('whatever is written, it is a rule or refused by name', () => {
  fc.assert(
    fc.property(fc.string({ maxLength: 40 }), (text) => {
      try {
        expect(parseEgressRule(text).text).not.toBe('');
      } catch (error) {
        expect(error).toMatchObject({ code: 'invalid_argument' });
      }
    }),
  );
});

test.each([
  ['10.1.2.3/8', 'write "10.0.0.0/8"'],
  ['0x7f.1', 'means the address 127.0.0.1'],
  ['2130706433', 'means the address 127.0.0.1'],
  ['git.example.org:0', 'not a port'],
  ['git.example.org:90-80', 'not a port'],
  ['git.example.org/sctp', 'not tcp or udp'],
  ['git.example.org:443/sctp', 'not tcp or udp'],
  ['https://git.example.org', 'no rule'],
  ['git.example.org/path', 'not'],
  ['a.*.example.org', 'no rule'],
  ['', 'no rule'],
])('"%s" is refused: %s', (text, why) => {
  expect(() => parseEgressRule(text)).toThrow(why);
});

test('a policy is all, none, or rules, each once', () => {
  expect(egressWords(parseEgress(['all']))).toEqual(['all']);
  expect(egressWords(parseEgress(['none']))).toEqual(['none']);
  expect(egressWords(parseEgress(['a.org, B.org:443', 'a.org']))).toEqual(['a.org', 'b.org:443']);
  expect(() => parseEgress(['all', 'a.org'])).toThrow('said alone');
  expect(() => parseEgress(['none,a.org'])).toThrow('said alone');
  expect(() => parseEgress([])).toThrow('Say what');
});

test('a name is allowed by itself, a wildcard allows what is below it, and neither a neighbour', () => {
  fc.assert(
    fc.property(name, label, port, (domain, below, at) => {
      const allows = (rule: string, asked: string): boolean =>
        findDomainRule(parseEgress([rule]), asked, at) !== undefined;
      expect(allows(domain, domain)).toBe(true);
      expect(allows(domain, `${below}.${domain}`)).toBe(false);
      expect(allows(`*.${domain}`, `${below}.${domain}`)).toBe(true);
      expect(allows(`*.${domain}`, domain)).toBe(false);
      expect(allows(`*.${domain}`, `x${domain}`)).toBe(false);
      expect(allows(domain, `x${domain}`)).toBe(false);
      expect(allows(domain, `${domain}.evil.org`)).toBe(false);
      expect(allows('*', domain)).toBe(true);
      expect(allows(`${domain}:${at}`, domain)).toBe(true);
      expect(allows(`${domain}:${at === 1 ? 2 : at - 1}`, domain)).toBe(false);
      expect(allows(`${domain}/udp`, domain)).toBe(false);
      expect(allows('0.0.0.0/0', domain)).toBe(false);
    }),
  );
});

test('networks allow the addresses in them, of their own family', () => {
  const allows = (rule: string, address: string, at = 80): boolean =>
    findNetworkRule(parseEgress([rule]), parseIpAddress(address)!, at) !== undefined;
  expect(allows('10.0.0.0/8', '10.255.0.1')).toBe(true);
  expect(allows('10.0.0.0/8', '::ffff:10.255.0.1')).toBe(true);
  expect(allows('10.0.0.0/8', '11.0.0.1')).toBe(false);
  expect(allows('0.0.0.0/0', '2001:db8::1')).toBe(false);
  expect(allows('[2001:db8::/32]:443', '2001:db8::1', 443)).toBe(true);
  expect(allows('[2001:db8::/32]:443', '2001:db8::1', 444)).toBe(false);
  expect(allows('*', '1.1.1.1')).toBe(false);
});

test.each(
  '127.0.0.1 127.1 0x7f000001 2130706433 0177.0.0.1 0 0.0.0.0 169.254.169.254 [fd00:ec2::254] [::1] [::] [::ffff:127.0.0.1] [::ffff:a9fe:a9fe] 10.0.2.2 172.31.0.1 192.168.1.1 100.100.100.200 168.63.129.16 224.0.0.1 255.255.255.255 [fe80::1] [ff02::1] [64:ff9b::a9fe:a9fe] [2002:7f00:1::] [::7f00:1] １２７.0.0.1'.split(
    ' ',
  ),
)('%s is an address that is not public', (text) => {
  const host = parseHost(text);
  expect(host && 'address' in host && specialPurpose(host.address)).toBeTruthy();
});

test.each(['1.1.1.1', '172.32.0.1', '[2606:4700::1111]', '[64:ff9b::101:101]'])('%s is public', (text) => {
  const host = parseHost(text)!;
  expect('address' in host && specialPurpose(host.address)).toBeUndefined();
});

test('a host is a name or an address, however it is written, or nothing', () => {
  expect(parseHost('Git.Example.ORG.')).toEqual({ name: 'git.example.org' });
  expect(parseHost('bücher.example')).toEqual({ name: 'xn--bcher-kva.example' });
  for (const text of [
    '',
    '.',
    'a..b',
    'a b',
    'a/b',
    'user@host',
    'host:80',
    '%31',
    'fe80::1%eth0',
    '-a.org',
    'a\0b',
  ])
    expect(parseHost(text), text).toBeUndefined();
  fc.assert(
    fc.property(fc.string(), (text) => {
      const host = parseHost(text);
      if (host && 'name' in host) expect(parseHost(host.name)).toEqual(host);
    }),
  );
});
