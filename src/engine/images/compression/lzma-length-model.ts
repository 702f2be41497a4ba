export const maxPositionStates = 16;

/** Probabilities of the lengths of matches. */
export interface LengthModel {
  readonly choice: Uint16Array;
  readonly low: Uint16Array;
  readonly middle: Uint16Array;
  readonly high: Uint16Array;
}

export function lengthModel(): LengthModel {
  return {
    choice: new Uint16Array(2),
    low: new Uint16Array(maxPositionStates << 3),
    middle: new Uint16Array(maxPositionStates << 3),
    high: new Uint16Array(256),
  };
}
