import { parse, TomlError } from 'smol-toml';
import * as z from 'zod/mini';
import { BangerError, errorText } from '../errors.ts';
import { parseDurationMs, parseSizeBytes } from './units.ts';

/** A string with a parser of its own, whose complaint becomes the schema's, so that it is told with its key. */
export function parsedText<T>(parseText: (text: string) => T) {
  return z.pipe(
    z.string(),
    z.transform((text, context) => {
      try {
        return parseText(text);
      } catch (error) {
        context.issues.push({ code: 'custom', message: errorText(error), input: text });
        return z.NEVER;
      }
    }),
  );
}

/** Text such as "512M" or "2G", in bytes */
export const sizeText = parsedText(parseSizeBytes);
/** Text such as "30s" or "10m", in milliseconds */
export const durationText = parsedText(parseDurationMs);

/** Parses a TOML file that must look like a schema. Complaints name the file, the key, and for unknown keys the nearest valid one. */
export function parseTomlFile<Schema extends z.core.$ZodType>(
  schema: Schema,
  text: string,
  file: string,
): z.output<Schema> {
  const parsed = z.safeParse(schema, parseText(text, file));
  if (parsed.success) return parsed.data;
  throw refusal(file, `"${file}": ${problems(parsed.error, schema)}`);
}

function parseText(text: string, file: string): unknown {
  try {
    return parse(text);
  } catch (error) {
    if (!(error instanceof TomlError)) throw error;
    throw refusal(file, `"${file}" line ${error.line} is not TOML: ${error.message.split('\n')[0]}`);
  }
}

/** All that is wrong with a value, in one line. `schema` is what it should have looked like. */
export function problems(error: z.core.$ZodError, schema: z.core.$ZodType): string {
  return error.issues.map((issue) => problemText(issue, schema)).join('; ');
}

function refusal(file: string, message: string): BangerError {
  return new BangerError('invalid_argument', message, { hint: `Correct it with: \${EDITOR:-vi} ${file}` });
}

function problemText(issue: z.core.$ZodIssue, schema: z.core.$ZodType): string {
  const path = issue.path.join('.');
  if (issue.code === 'unrecognized_keys') {
    const valid = [...validKeys(schema)];
    return issue.keys.map((key) => unknownKeyText([...issue.path, key].join('.'), valid)).join('; ');
  }
  return path === '' ? complaint(issue) : `"${path}": ${complaint(issue)}`;
}

/** What the schema says itself, else what can be said of any value. */
function complaint(issue: z.core.$ZodIssue): string {
  if (issue.code === 'invalid_key') return issue.issues[0]?.message ?? issue.message;
  if (issue.message !== 'Invalid input') return issue.message;
  switch (issue.code) {
    case 'invalid_type':
      return `is not ${kinds[issue.expected] ?? issue.expected}`;
    case 'too_small':
      return issue.origin === 'array' ? 'is empty' : `is less than ${issue.minimum}`;
    case 'too_big':
      return `is more than ${issue.maximum}`;
    case 'invalid_value':
      return `is none of ${issue.values.map((value) => JSON.stringify(value)).join(', ')}`;
    default:
      return 'cannot be that';
  }
}

const kinds: Readonly<Record<string, string>> = {
  int: 'a whole number',
  number: 'a number',
  string: 'a text in quotes',
  boolean: 'true or false',
  array: 'a list',
  object: 'a table of keys',
  record: 'a table of keys',
};

function unknownKeyText(key: string, valid: readonly string[]): string {
  const near = nearestWord(key, valid) ?? valid.find((one) => lastPart(one) === lastPart(key));
  return `unknown key "${key}"${near === undefined ? '' : `; did you mean "${near}"?`}`;
}

function lastPart(key: string): string {
  return key.slice(key.lastIndexOf('.') + 1);
}

/** Keys that a schema knows, those of tables in tables with dots. */
function* validKeys(schema: z.core.$ZodType, prefix = ''): Generator<string> {
  const { def } = (schema as z.core.$ZodTypes)._zod;
  if (def.type === 'optional') return yield* validKeys(def.innerType, prefix);
  if (def.type !== 'object') return;
  for (const [key, value] of Object.entries(def.shape)) {
    yield `${prefix}${key}`;
    yield* validKeys(value, `${prefix}${key}.`);
  }
}

/** The word that somebody meant who mistyped it, if there is one that is close enough. */
export function nearestWord(word: string, candidates: readonly string[]): string | undefined {
  const scored = candidates.map((candidate) => ({ candidate, distance: editDistance(word, candidate) }));
  const [best] = scored.toSorted((left, right) => left.distance - right.distance);
  // Two letters that changed places are two edits.
  const allowed = word.length <= 3 ? 1 : Math.max(2, Math.floor(word.length / 3));
  if (!best || best.distance > allowed) return undefined;
  return best.candidate;
}

/** Characters to insert, remove or replace, one after the other, to turn one word into the other. */
function editDistance(from: string, to: string): number {
  let row = Array.from({ length: to.length + 1 }, (_, index) => index);
  for (const [at, character] of [...from].entries()) {
    const next = [at + 1];
    for (let index = 1; index <= to.length; index++) {
      const replaced = row[index - 1]! + (to[index - 1] === character ? 0 : 1);
      next.push(Math.min(replaced, row[index]! + 1, next[index - 1]! + 1));
    }
    row = next;
  }
  return row.at(-1)!;
}
