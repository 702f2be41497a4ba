/**
 * Does something for each of several, one after the other, whatever becomes of those before. Throws at the end: what
 * one threw, or what several threw, joined.
 */
export async function forAll<T>(items: Iterable<T>, task: (item: T) => Promise<void>): Promise<void> {
  const errors: unknown[] = [];
  for (const item of items) {
    try {
      await task(item);
    } catch (error) {
      errors.push(error);
    }
  }
  if (errors.length === 1) throw errors[0];
  if (errors.length > 1) throw new AggregateError(errors, errors.map(String).join('; '));
}
