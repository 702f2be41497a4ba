/** A comment, a string, or a comma that only closing brackets follow: what is not JSON, and what could look like it. */
const token =
  /"(?:[^"\\]|\\.)*"|\/\/[^\n]*|\/\*(?:[^*]|\*(?!\/))*\*\/|,(?=(?:\s|\/\/[^\n]*(?:\n|$)|\/\*(?:[^*]|\*(?!\/))*\*\/)*[\]}])/g;

/**
 * Parses JSON in which comments and commas before closing brackets are allowed. Throws what `JSON.parse` throws; places
 * in its message are those of the text as it stands.
 */
export function parseJsonWithComments(text: string): unknown {
  const plain = text
    .replace(/^\ufeff/, '')
    .replace(token, (found) => (found.startsWith('"') ? found : found.replace(/[^\n]/g, ' ')));
  return JSON.parse(plain);
}
