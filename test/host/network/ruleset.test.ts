import { expect, test } from 'vitest';
import { networkOwner, type HostNetwork } from '../../../src/host/network/plan.ts';
import { clearRuleset, ruleset } from '../../../src/host/network/ruleset.ts';

const owner = { ...networkOwner('/state', 0), tag: '1a2b' };
const network: HostNetwork = {
  owner,
  bridges: [
    { number: 1, subnet: '10.213.1.0/24', isShared: false, guests: ['10.213.1.2'], spare: ['10.213.1.3'] },
    { number: 2, subnet: '10.213.2.0/24', isShared: true, guests: ['10.213.2.9'], spare: [] },
  ],
};
const text = ruleset(network);

test('only tables of our own are named, and each is replaced as a whole', () => {
  const tables = [...text.matchAll(/^(?:delete )?table (\w+) (\S+)/gm)].map((match) => match[0]);
  expect(tables).toEqual([
    'table bridge banger_1a2b',
    'delete table bridge banger_1a2b',
    'table inet banger_1a2b',
    'delete table inet banger_1a2b',
    'table bridge banger_1a2b',
    'table inet banger_1a2b',
  ]);
  expect(text).not.toContain('flush');
});

test('the same state makes the same rules', () => {
  expect(ruleset(network)).toBe(text);
});

test('a tap lets through the MAC and the address of its guest; one that waits for a guest lets nobody through', () => {
  expect(text).toContain('"bgt1a2b-1-2" . 02:00:0a:d5:01:02 . 10.213.1.2');
  expect(text).toContain('"bgt1a2b-2-9" . 02:00:0a:d5:02:09 . 10.213.2.9');
  expect(text).not.toContain('10.213.1.3');
});

test('a guest that is held is so by its tap, and so is each by its second one where there are two', () => {
  const [one, two] = network.bridges;
  const heldSet = (changed: HostNetwork) =>
    /set held \{[^}]*?(?:elements = \{([^}]*)\}\s*)?\}/.exec(ruleset(changed))?.[1]?.trim();
  expect(heldSet(network)).toBeUndefined();
  expect(heldSet({ owner, bridges: [one!, { ...two!, held: two!.guests }] })).toBe('"bgt1a2b-2-9"');
  const both = { owner, bridges: [{ ...one!, hasHeldTaps: true }] };
  expect(heldSet(both)).toBe('"bgh1a2b-1-2"');
  expect(ruleset(both)).toContain('"bgh1a2b-1-2" . 02:00:0a:d5:01:02 . 10.213.1.2');
});

test('only within a shared network may frames go from guest to guest', () => {
  expect(text).toContain('iifname "bgb1a2b-2" oifname "bgb1a2b-2" accept');
  expect(text).not.toContain('iifname "bgb1a2b-1" oifname');
});

test('questions for names at the host go to our resolver, on a shared network only', () => {
  expect(text).toContain(
    'iifname "bgb1a2b-2" ip daddr 10.213.2.1 meta l4proto { tcp, udp } th dport 53 redirect to :10053',
  );
  expect(text.match(/redirect/g)).toHaveLength(1);
});

test('how often a guest asks is limited before what it has begun is let through', () => {
  const [, toHost] = /chain to_host \{([^}]*(?:\{[^}]*\}[^}]*)*)\n {2}\}/.exec(text)!;
  const at = (words: string) => toHost!.indexOf(words);
  expect(at('update @asking { ip saddr limit rate over 200/second')).toBeGreaterThan(0);
  expect(at('update @asking')).toBeLessThan(at('ct state established'));
});

test('no rule lets anything pass that another firewall refuses: every chain of ours begins by accepting', () => {
  const hooks = [...text.matchAll(/hook \w+ priority \S+ policy (\w+)/g)].map((match) => match[1]);
  expect(new Set(hooks)).toEqual(new Set(['accept']));
});

test('what clears the rules works on a host that has none', () => {
  expect(clearRuleset(owner)).toBe(
    'table bridge banger_1a2b\ndelete table bridge banger_1a2b\ntable inet banger_1a2b\ndelete table inet banger_1a2b\n',
  );
});

test.each([
  ['a tag', { ...network, owner: { ...owner, tag: '"; flush ruleset; #' } }],
  ['an address', { ...network, bridges: [{ ...network.bridges[0]!, guests: ['10.213.1.2 } ; drop'] }] }],
  ['a number', { ...network, bridges: [{ ...network.bridges[1]!, number: 0.5 }] }],
])('%s that is not what it should be gets into no rule', (_what, wrong) => {
  expect(() => ruleset(wrong as HostNetwork)).toThrow('The network cannot be planned');
});
