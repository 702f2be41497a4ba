import { once } from 'node:events';
import { connect } from 'node:net';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { answerMessage, type Transport } from '../../../../src/engine/names/dns/answer.ts';
import { NameServer } from '../../../../src/engine/names/dns/name-server.ts';
import { encodeName, maxUdpBytes } from '../../../../src/engine/names/dns/wire.ts';
import { addressBytes, reverseName, Zone } from '../../../../src/engine/names/dns/zone.ts';

const zone = new Zone([{ name: 'web', addresses: ['10.77.0.2', 'fd77::2'] }], 1);

/** A question for web.vm, with EDNS. */
function question(name = encodeName(['web', 'vm']), type = 1, edns = true): Buffer {
  const header = Buffer.from([0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, edns ? 1 : 0]);
  const opt = Buffer.from([0, 0, 41, 0x10, 0, 0, 0, 0, 0, 0, 0]);
  return Buffer.concat([header, name, Buffer.from([0, type, 0, 1]), ...(edns ? [opt] : [])]);
}

/** The whole of what may come back: an answer to this message that is no longer than it may be, or nothing. */
function expectSane(message: Buffer, transport: Transport = 'udp'): number | undefined {
  const outcome = answerMessage(message, zone, transport);
  if (outcome.kind === 'silence') return undefined;
  const answer = outcome.kind === 'answer' ? outcome.message : outcome.refusal;
  expect(answer.subarray(0, 2)).toEqual(message.subarray(0, 2));
  expect(answer[2]! & 0x80).toBe(0x80);
  expect(answer.length).toBeLessThanOrEqual(maxUdpBytes);
  // It is worth nobody's while to have us answer somebody else.
  expect(answer.length).toBeLessThanOrEqual(message.length + 150);
  return answer[3]! & 15;
}

test('bytes of any kind are answered or not, and never more', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 600 }), (bytes) => void expectSane(Buffer.from(bytes))),
    { numRuns: 5_000 },
  );
});

test('a question with any of its bits turned over is, too', () => {
  const message = question();
  for (let bit = 0; bit < message.length * 8; bit++) {
    const changed = Buffer.from(message);
    changed[bit >> 3]! ^= 1 << (bit & 7);
    expectSane(changed);
    expectSane(changed, 'tcp');
  }
});

test('a question that is cut off anywhere is one that cannot be read', () => {
  const message = question();
  for (let length = 0; length < message.length; length++) {
    const code = expectSane(message.subarray(0, length));
    expect(code).toBe(length < 12 ? undefined : 1);
  }
});

test.each([
  ['that points at itself', Buffer.from([0xc0, 12])],
  ['that points at the next one', Buffer.from([0xc0, 14, 0xc0, 12])],
  ['that points beyond the message', Buffer.from([0xff, 0xff])],
  ['with a label of a kind that there is not', Buffer.from([0x41, 0x41, 0])],
  [
    'that is longer than names are',
    Buffer.concat([Buffer.alloc(256, Buffer.from([1, 0x61])), Buffer.alloc(1)]),
  ],
])('a name %s cannot be read', (_, name) => {
  expect(expectSane(question(name))).toBe(1);
  expect(expectSane(question(name), 'tcp')).toBe(1);
});

test('a name in the marks of EDNS that points at itself cannot be read', () => {
  const message = question();
  const at = message.length - 11;
  const looped = Buffer.concat([message.subarray(0, at), Buffer.from([0xc0, at]), message.subarray(at + 1)]);
  expect(expectSane(looped)).toBe(1);
});

test('labels with dots, zeros and bytes that are no text name no VM', () => {
  expect(expectSane(question(encodeName(['web.vm'])))).toBe(5);
  expect(expectSane(question(encodeName(['we\0', 'vm'])))).toBe(3);
  expect(expectSane(question(encodeName(['\xff', 'vm'])))).toBe(3);
  expect(expectSane(question(encodeName(['__proto__', 'vm'])))).toBe(3);
});

test('answers, which another server may have sent, are not answered', () => {
  const message = question();
  message[2]! |= 0x80;
  expect(expectSane(message)).toBeUndefined();
});

test('more than one question, or records where none belong, cannot be read', () => {
  for (const at of [5, 7, 9, 11]) {
    const message = question();
    message[at] = 9;
    expect(expectSane(message)).toBe(1);
  }
});

test.each([
  ['fd00::', 'fd000000000000000000000000000000'],
  ['::1', '00000000000000000000000000000001'],
  ['1:2:3:4:5:6:7:8', '00010002000300040005000600070008'],
  ['::ffff:10.0.0.1', '00000000000000000000ffff0a000001'],
  ['10.0.0.255', '0a0000ff'],
])('%s is %s', (address, hex) => {
  expect(addressBytes(address).toString('hex')).toBe(hex);
});

test('what is no address is never in an answer', () => {
  for (const text of ['', 'web', '10.0.0', 'fe80::1%eth0', '1.2.3.4.5'])
    expect(() => addressBytes(text)).toThrow();
  expect(reverseName('10.77.0.2').join('.')).toBe('2.0.77.10.in-addr.arpa');
});

test('who asks a server that cannot know the answer now is hung up on, and the server goes on', async () => {
  let asked = 0;
  const broken = (): Zone => {
    asked++;
    throw new Error('disk I/O error');
  };
  const server = await NameServer.listen({ address: '127.0.0.1', port: 0, zone: broken });
  try {
    for (const round of [1, 2]) {
      const client = connect(server.port, '127.0.0.1');
      const message = question();
      client.end(Buffer.concat([Buffer.from([0, message.length]), message]));
      client.resume();
      client.on('error', () => undefined);
      await once(client, 'close');
      expect(asked).toBe(round);
    }
  } finally {
    server.close();
  }
});
