import type { Database } from './database.ts';
import { isOneEditAway } from './one-edit-away.ts';

/** A hint with the name that was probably meant; undefined when none is close. */
export function didYouMean(db: Database, reference: string): string | undefined {
  const names = db
    .prepare<[], { name: string }>('SELECT name FROM vms')
    .all()
    .map((row) => row.name);
  const close = names.find(
    (name) => name.startsWith(reference) || reference.startsWith(name) || isOneEditAway(name, reference),
  );
  return close && `Did you mean "${close}"? List VMs with: banger vm list`;
}
