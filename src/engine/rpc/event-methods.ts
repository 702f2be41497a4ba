import * as z from 'zod/mini';
import { questionStream } from './method.ts';

const texts = z.optional(z.array(z.string()));

/** Events as they happen: stdout frames carry one JSON object per line. Ends at `until`, if that is given. */
export const eventStream = questionStream(
  'events',
  z.object({
    /** Milliseconds since 1970: those remembered from then on come first. Absent: only what happens from now on. */
    since: z.optional(z.int()),
    until: z.optional(z.int()),
    /** Of each list that is given, one must match */
    types: texts,
    actions: texts,
    /** Names, or beginnings of ids */
    subjects: texts,
  }),
);
