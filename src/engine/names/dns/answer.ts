import { encodeAnswer, rcodes, readQuery, type Answer, type Query } from './wire.ts';
import type { Zone } from './zone.ts';

export type Transport = 'udp' | 'tcp';

/** What a message from a client comes to. */
export type Outcome =
  | { readonly kind: 'answer'; readonly message: Buffer }
  /** It is for somebody else to answer, if we ask others at all */
  | { readonly kind: 'elsewhere'; readonly query: Query; readonly refusal: Buffer }
  | { readonly kind: 'silence' };

/** Answers a message, whatever is in it. */
export function answerMessage(message: Buffer, zone: Zone, transport: Transport): Outcome {
  const received = readQuery(message);
  if (received.kind === 'silence') return received;
  if (received.kind === 'wrong') return { kind: 'answer', message: received.answer };
  const { query } = received;
  if (query.edns && query.edns.version !== 0) {
    return { kind: 'answer', message: encodeAnswer(query, nothing(rcodes.badVers), transport) };
  }
  const answer = encodeAnswer(query, zone.answer(query.question), transport);
  return zone.isOurs(query.question)
    ? { kind: 'answer', message: answer }
    : { kind: 'elsewhere', query, refusal: answer };
}

/** The answer that we could not find one. */
export function failure(query: Query, transport: Transport): Buffer {
  return encodeAnswer(query, nothing(rcodes.servFail), transport);
}

function nothing(rcode: Answer['rcode']): Answer {
  return { rcode, isAuthoritative: false, answers: [], authority: [] };
}
