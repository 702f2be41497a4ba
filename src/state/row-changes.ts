import type { Database } from './database.ts';

/** A change of a row that somebody may wait for. Keys are stable: they are what `banger events --json` prints. */
export interface RowChange {
  readonly type: 'vm' | 'image' | 'workspace';
  readonly action: string;
  /** Of the VM or image */
  readonly id: string;
  /** Of the VM, or the image's name */
  readonly name?: string;
  /** Of a VM, after the change */
  readonly state?: string;
  /** Why a VM is not running, when that was not asked for */
  readonly reason?: string;
  readonly oldName?: string;
  readonly hostPath?: string;
  readonly guestPath?: string;
}

const vm = (action: string, more = ''): string =>
  `json_object('type', 'vm', 'action', ${action}, 'id', NEW.id, 'name', NEW.name, 'state', NEW.state${more})`;

const pulled = `CASE NEW.source WHEN 'pull' THEN 'pulled' WHEN 'import' THEN 'imported' ELSE 'added' END`;
const tagged = `json_object('type', 'image', 'action', 'tagged', 'id', NEW.image_id, 'name', NEW.name)`;
const prepared = `json_object('type', 'workspace', 'action', 'prepared', 'id', NEW.vm_id,
  'name', (SELECT name FROM main.vms WHERE id = NEW.vm_id), 'hostPath', NEW.host_path, 'guestPath', NEW.guest_path)`;

const settings =
  'cpus, memory_mib, disk_bytes, labels, ttl_ms, idle_stop_ms, file_sync, egress, publishes_all';
const rowOf = (row: 'NEW' | 'OLD'): string =>
  settings
    .split(', ')
    .map((column) => `${row}.${column}`)
    .join(', ');

/** Of a VM that is being made or deleted, ports and sockets are no change. */
function wayInChanged(row: 'NEW' | 'OLD'): readonly [string, string] {
  const its = (column: string): string => `(SELECT ${column} FROM main.vms WHERE id = ${row}.vm_id)`;
  return [
    `json_object('type', 'vm', 'action', 'changed', 'id', ${row}.vm_id, 'name', ${its('name')}, 'state', ${its('state')})`,
    `coalesce(${its('state')}, 'deleting') NOT IN ('creating', 'deleting')`,
  ];
}

interface Trigger {
  readonly when: string;
  /** What is told, as JSON, each with the condition under which it is. */
  readonly tells: readonly (readonly [change: string, condition?: string])[];
}

const triggers: readonly Trigger[] = [
  { when: 'INSERT ON main.vms', tells: [[vm('NEW.state')]] },
  {
    // One trigger for both, since the order of several is not defined.
    when: 'UPDATE OF state ON main.vms WHEN NEW.state <> OLD.state',
    tells: [
      // Its disk is there. What becomes of it next is another change, unless nothing does.
      [vm(`'created'`), `OLD.state = 'creating' AND NEW.state <> 'deleting'`],
      [
        vm('NEW.state', `, 'reason', NEW.last_error`),
        `NOT (OLD.state = 'creating' AND NEW.state = 'stopped')`,
      ],
    ],
  },
  {
    when: 'UPDATE OF name ON main.vms WHEN NEW.name <> OLD.name',
    tells: [[vm(`'renamed'`, `, 'oldName', OLD.name`)]],
  },
  {
    when: `UPDATE OF ${settings} ON main.vms WHEN (${rowOf('NEW')}) IS NOT (${rowOf('OLD')})`,
    tells: [[vm(`'changed'`)]],
  },
  { when: 'INSERT ON main.published_ports', tells: [wayInChanged('NEW')] },
  { when: 'DELETE ON main.published_ports', tells: [wayInChanged('OLD')] },
  { when: 'INSERT ON main.published_sockets', tells: [wayInChanged('NEW')] },
  { when: 'DELETE ON main.published_sockets', tells: [wayInChanged('OLD')] },
  {
    when: 'DELETE ON main.vms',
    tells: [
      [`json_object('type', 'vm', 'action', 'deleted', 'id', OLD.id, 'name', OLD.name, 'state', OLD.state)`],
    ],
  },
  {
    when: 'INSERT ON main.images',
    tells: [[`json_object('type', 'image', 'action', ${pulled}, 'id', NEW.id)`]],
  },
  {
    when: 'DELETE ON main.images',
    tells: [[`json_object('type', 'image', 'action', 'deleted', 'id', OLD.id)`]],
  },
  { when: 'INSERT ON main.image_names', tells: [[tagged]] },
  {
    when: 'UPDATE OF image_id ON main.image_names WHEN NEW.image_id <> OLD.image_id',
    tells: [[tagged]],
  },
  {
    when: 'DELETE ON main.image_names',
    tells: [[`json_object('type', 'image', 'action', 'untagged', 'id', OLD.image_id, 'name', OLD.name)`]],
  },
  { when: 'INSERT ON main.workspaces', tells: [[prepared]] },
  { when: 'UPDATE ON main.workspaces', tells: [[prepared]] },
];

/**
 * Tells of every change to VMs, images and workspaces made over this connection, in order and after it was
 * committed, whoever made it: no verb has to remember to.
 *
 * Triggers of this connection alone write changes to a temporary table, so that a transaction that is rolled back
 * takes them along. Transactions are synchronous: by the next microtask this one is over.
 */
export function watchRows(db: Database, listener: (change: RowChange) => void): void {
  let isDue = false;
  const deliver = (): void => {
    isDue = false;
    if (!db.open) return;
    const rows = db.prepare<[], { change: string }>('SELECT change FROM temp.row_changes ORDER BY n').all();
    db.exec('DELETE FROM temp.row_changes');
    for (const [index, { change }] of rows.entries()) {
      const told = withoutNulls(change);
      // One command may change much of a VM, by a statement each.
      if (told.action !== 'changed' || change !== rows[index - 1]?.change) listener(told);
    }
  };
  db.function('row_changed', () => {
    if (!isDue) queueMicrotask(deliver);
    isDue = true;
    return null;
  });
  db.pragma('temp_store = MEMORY');
  db.exec('CREATE TEMP TABLE row_changes (n INTEGER PRIMARY KEY, change TEXT NOT NULL)');
  for (const [index, { when, tells }] of triggers.entries()) {
    const inserts = tells.map(
      ([change, condition = 'true']) =>
        `INSERT INTO row_changes (change) SELECT ${change} WHERE ${condition};`,
    );
    db.exec(`CREATE TEMP TRIGGER row_change_${index} AFTER ${when}
      BEGIN ${inserts.join(' ')} SELECT row_changed(); END`);
  }
}

function withoutNulls(change: string): RowChange {
  return JSON.parse(change, (_, value: unknown) => value ?? undefined) as RowChange;
}
