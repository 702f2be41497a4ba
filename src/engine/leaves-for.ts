import { newerDatabase } from '../state/database-checks.ts';

interface Builds {
  readonly client: { readonly build: string; readonly schema: number | undefined };
  readonly engine: { readonly build: string; readonly schema: number; readonly hasWork: boolean };
  /** Path of the database */
  readonly database: string;
}

/**
 * Whether an engine leaves so that a client can start its own: when that is another build, and nothing is under way.
 *
 * Throws for one that would find the database too new and start none: VMs would be without an engine, and all that an
 * engine does for them.
 */
export function leavesFor({ client, engine, database }: Builds): boolean {
  if (client.build === engine.build) return false;
  if (client.schema === undefined || client.schema < engine.schema)
    throw newerDatabase(database, engine.schema, client.schema);
  return !engine.hasWork;
}
