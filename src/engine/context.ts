import type { Assets } from '../host/assets.ts';
import type { Exec } from '../host/exec.ts';
import type { Config } from '../state/config.ts';
import type { Database } from '../state/database.ts';
import type { Layout } from '../state/layout.ts';
import type { Vm } from '../state/vms.ts';
import type { Guest } from './guest.ts';
import type { EngineLocks } from './locks.ts';
import type { Log } from './log.ts';
import type { OperationRegistry } from './operations.ts';

/** What every part of the engine works with. Made once in `main.ts`; tests make their own. */
export interface EngineContext {
  readonly layout: Layout;
  readonly db: Database;
  readonly locks: EngineLocks;
  readonly operations: OperationRegistry;
  readonly log: Log;
  readonly exec: Exec;
  readonly assets: Assets;
  /** The configuration as the file says now; throws when it is wrong */
  readonly config: () => Config;
  /** The way into a running VM; throws `invalid_state` when it is not running, `guest_unreachable` when it does not answer */
  readonly guest: (vm: Vm, signal: AbortSignal) => Promise<Guest>;
}

/** What work on images needs of the engine. */
export type ImageContext = Pick<EngineContext, 'layout' | 'db' | 'locks' | 'log' | 'assets' | 'config'>;

/** What work on workspaces needs of the engine. */
export type WorkspaceContext = Pick<
  EngineContext,
  'layout' | 'db' | 'locks' | 'log' | 'assets' | 'exec' | 'guest'
>;
