/** Quotes words for a POSIX shell, in a guest or of who reads a hint. The only place where text for a shell is built. */
export function shellQuote(words: readonly string[]): string {
  return words.map(quoteWord).join(' ');
}

/** The same with one word, for commands that people are to copy. */
export function shellWord(word: string): string {
  return quoteWord(word);
}

function quoteWord(word: string): string {
  return /^[A-Za-z0-9_@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`;
}
