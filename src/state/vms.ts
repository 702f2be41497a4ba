import { BangerError } from '../errors.ts';
import type { Database } from './database.ts';
import type { DiskMethodName } from './disk-methods.ts';
import { egressAll, formatEgress, parseEgress, type EgressPolicy } from './egress.ts';
import type { FileSync } from './file-sync.ts';
import { parsePorts, portsColumn, replacePorts, type PublishedPort } from './ports.ts';
import { parseSockets, replaceSockets, socketsColumn, type PublishedSocket } from './sockets.ts';
import type { VmChanges } from './vm-changes.ts';
import { statesBefore, type VmState } from './vm-states.ts';
import { didYouMean } from './vm-suggestion.ts';

/** What is known of a VM for good. Pids, ports and the like are handles, kept elsewhere. */
export interface Vm {
  /** 32 hex digits */
  readonly id: string;
  readonly name: string;
  readonly state: VmState;
  readonly imageId: string;
  /** As the user wrote it */
  readonly imageName: string;
  /** Absent: the kernel inside banger */
  readonly kernelId?: string;
  readonly cpus: number;
  readonly memoryMib: number;
  readonly diskBytes: number;
  /** How its root disk was made */
  readonly diskMethod: DiskMethodName;
  /** `user`, `none`, or the name of a network */
  readonly network: string;
  /** IPv4 address on a network behind a bridge; absent on others */
  readonly address?: string;
  /** SSH host key of the guest, one line in OpenSSH's format */
  readonly hostPublicKey: string;
  /** Belongs to one `vm run` and is deleted with it */
  readonly ephemeral: boolean;
  readonly controlSocket: string;
  readonly labels: Labels;
  /** How long it may run after a start; absent: as long as it likes */
  readonly ttlMs?: number;
  /** How long it may run without being used; absent: as long as it likes */
  readonly idleStopMs?: number;
  /** In the order of their guest ports */
  readonly ports: readonly PublishedPort[];
  /** In the order of their guest paths */
  readonly sockets: readonly PublishedSocket[];
  /** What of the host it gets copies of at each start, besides what the configuration names */
  readonly fileSync: readonly VmFileSync[];
  /** Whether it gets what the configuration names, too */
  readonly takesConfigFiles: boolean;
  /** What its guest may reach outside */
  readonly egress: EgressPolicy;
  /** Whether what listens in its guest is published as long as it does */
  readonly publishesAll: boolean;
  readonly createdAt: string;
  readonly startedAt?: string;
  readonly stoppedAt?: string;
  /** Why it is not running, when that was not asked for */
  readonly lastError?: string;
}

export type Labels = Readonly<Record<string, string>>;

export type VmFileSync = Pick<FileSync, 'host' | 'guest'>;

type Defaulted =
  'diskMethod' | 'labels' | 'ports' | 'sockets' | 'fileSync' | 'takesConfigFiles' | 'egress' | 'publishesAll';

export type NewVm = Omit<Vm, 'state' | 'address' | 'startedAt' | 'stoppedAt' | 'lastError' | Defaulted> &
  Partial<Pick<Vm, Defaulted>>;

/** What SQLite has no type for, or `null` where we have nothing. */
type Encoded =
  | 'address'
  | 'ephemeral'
  | 'kernelId'
  | 'labels'
  | 'ports'
  | 'sockets'
  | 'fileSync'
  | 'takesConfigFiles'
  | 'egress'
  | 'publishesAll'
  | 'ttlMs'
  | 'idleStopMs'
  | 'startedAt'
  | 'stoppedAt'
  | 'lastError';

interface VmRow extends Omit<Vm, Encoded> {
  readonly address: string | null;
  readonly ephemeral: number;
  readonly kernelId: string | null;
  readonly labels: string;
  readonly ports: string;
  readonly sockets: string;
  readonly fileSync: string;
  readonly takesConfigFiles: number;
  readonly egress: string;
  readonly publishesAll: number;
  readonly ttlMs: number | null;
  readonly idleStopMs: number | null;
  readonly startedAt: string | null;
  readonly stoppedAt: string | null;
  readonly lastError: string | null;
}

const columns = `id, name, state, image_id AS imageId, image_name AS imageName, kernel_id AS kernelId, cpus, memory_mib AS memoryMib,
  disk_bytes AS diskBytes, disk_method AS diskMethod, network, host_public_key AS hostPublicKey, ephemeral, control_socket AS controlSocket,
  created_at AS createdAt, started_at AS startedAt, stopped_at AS stoppedAt, last_error AS lastError, labels,
  ttl_ms AS ttlMs, idle_stop_ms AS idleStopMs, file_sync AS fileSync, takes_config_files AS takesConfigFiles, egress,
  publishes_all AS publishesAll,
  ${portsColumn} AS ports, ${socketsColumn} AS sockets, (SELECT address FROM vm_addresses WHERE vm_id = vms.id) AS address`;

/**
 * Reserves name and id for a VM that is about to be made. The database decides who gets a name
 * (`already_exists`), and that the image is still there (`busy`: somebody has just deleted it).
 */
export function insertVm(db: Database, vm: NewVm): Vm {
  if (!db.prepare('SELECT 1 FROM images WHERE id = ?').get(vm.imageId)) {
    throw new BangerError('busy', `The image "${vm.imageName}" was deleted meanwhile`, { hint: 'Try again' });
  }
  if (vm.kernelId !== undefined && !db.prepare('SELECT 1 FROM kernels WHERE id = ?').get(vm.kernelId)) {
    throw new BangerError('busy', 'The kernel was deleted meanwhile', { hint: 'Try again' });
  }
  const insert = db.prepare<[object]>(
    `INSERT INTO vms (id, name, state, image_id, image_name, kernel_id, cpus, memory_mib, disk_bytes, disk_method, network,
                      host_public_key, ephemeral, control_socket, labels, ttl_ms, idle_stop_ms, file_sync,
                      takes_config_files, egress, publishes_all, created_at)
     VALUES (@id, @name, 'creating', @imageId, @imageName, @kernelId, @cpus, @memoryMib, @diskBytes, @diskMethod, @network,
             @hostPublicKey, @ephemeral, @controlSocket, @labels, @ttlMs, @idleStopMs, @fileSync,
             @takesConfigFiles, @egress, @publishesAll, @createdAt)
     ON CONFLICT (name) DO NOTHING`,
  );
  db.transaction(() => {
    const { changes } = insert.run({
      ...vm,
      ports: undefined,
      sockets: undefined,
      kernelId: vm.kernelId ?? null,
      diskMethod: vm.diskMethod ?? 'qcow2',
      ephemeral: vm.ephemeral ? 1 : 0,
      labels: JSON.stringify(vm.labels ?? {}),
      ttlMs: vm.ttlMs ?? null,
      idleStopMs: vm.idleStopMs ?? null,
      fileSync: JSON.stringify(vm.fileSync ?? []),
      takesConfigFiles: (vm.takesConfigFiles ?? true) ? 1 : 0,
      egress: formatEgress(vm.egress ?? egressAll),
      publishesAll: vm.publishesAll ? 1 : 0,
    });
    if (changes === 0) throw nameTaken(vm.name);
    replacePorts(db, vm.id, vm.ports ?? []);
    replaceSockets(db, vm.id, vm.sockets ?? []);
  })();
  return getVm(db, vm.id);
}

function nameTaken(name: string): BangerError {
  return new BangerError('already_exists', `There is already a VM named "${name}"`, {
    hint: `Choose another name, or delete it with: banger vm delete ${name}`,
  });
}

/** Changes all of it or, when name or a port belongs to somebody else (`already_exists`), nothing. */
export function changeVm(db: Database, id: string, changes: VmChanges): Vm {
  const assignments: readonly (readonly [string, unknown])[] = [
    ['name', changes.name],
    ['cpus', changes.cpus],
    ['memory_mib', changes.memoryMib],
    ['disk_bytes', changes.diskBytes],
    ['labels', changes.labels && JSON.stringify(changes.labels)],
    ['ttl_ms', changes.ttlMs],
    ['idle_stop_ms', changes.idleStopMs],
    ['file_sync', changes.fileSync && JSON.stringify(changes.fileSync)],
    ['egress', changes.egress && formatEgress(changes.egress)],
    ['publishes_all', changes.publishesAll === undefined ? undefined : Number(changes.publishesAll)],
  ];
  db.transaction(() => {
    for (const [column, value] of assignments) {
      if (value === undefined) continue;
      const done = db.prepare(`UPDATE OR IGNORE vms SET ${column} = ? WHERE id = ?`).run(value, id);
      if (done.changes === 0 && column === 'name' && findVm(db, id)) throw nameTaken(String(value));
    }
    if (changes.ports) replacePorts(db, id, changes.ports);
    if (changes.sockets) replaceSockets(db, id, changes.sockets);
  })();
  return getVm(db, id);
}

/**
 * Moves a VM to its next state.
 *
 * Check and change are one statement: of two callers that both saw the VM stopped, only one gets to start it.
 */
export function moveVm(db: Database, id: string, next: VmState, lastError?: string): Vm {
  const moved = db
    .prepare<unknown[], VmRow>(
      `UPDATE vms
       SET state = @next,
           last_error = @lastError,
           started_at = CASE WHEN @next = 'running' AND state = 'starting' THEN @now ELSE started_at END,
           stopped_at = CASE WHEN @next = 'stopped' THEN @now ELSE stopped_at END
       WHERE id = @id AND state IN (SELECT value FROM json_each(@before))
       RETURNING ${columns}`,
    )
    .get({
      id,
      next,
      lastError: lastError ?? null,
      now: new Date().toISOString(),
      before: JSON.stringify(statesBefore(next)),
    });
  if (moved) return toVm(moved);

  const vm = getVm(db, id);
  throw new BangerError('invalid_state', `VM "${vm.name}" is ${vm.state} and cannot go to ${next}`, {
    hint:
      vm.state === 'paused'
        ? `Let it go on with: banger vm resume ${vm.name}`
        : `See what it is doing with: banger vm show ${vm.name}`,
  });
}

/** Forgets a VM. One that is already gone counts as forgotten. */
export function deleteVmRow(db: Database, id: string): void {
  db.prepare('DELETE FROM vms WHERE id = ?').run(id);
}

/** Makes a VM the user's to keep, or one that goes with its `vm run`. */
export function setEphemeral(db: Database, id: string, ephemeral: boolean): void {
  db.prepare('UPDATE vms SET ephemeral = ? WHERE id = ?').run(ephemeral ? 1 : 0, id);
}

export function findVm(db: Database, id: string): Vm | undefined {
  const row = db.prepare<[string], VmRow>(`SELECT ${columns} FROM vms WHERE id = ?`).get(id);
  return row && toVm(row);
}

export function getVm(db: Database, id: string): Vm {
  const vm = findVm(db, id);
  if (vm) return vm;
  throw new BangerError('not_found', `There is no VM with id "${id}"`, {
    hint: 'List VMs with: banger vm list',
  });
}

/** Oldest first. */
export function listVms(db: Database): Vm[] {
  return db.prepare<[], VmRow>(`SELECT ${columns} FROM vms ORDER BY created_at, id`).all().map(toVm);
}

/** Shortest id prefix accepted in place of a name. */
const minPrefixLength = 3;

/** Finds the VM a user means: its name, or an unambiguous start of its id. */
export function resolveVm(db: Database, reference: string): Vm {
  const named = db.prepare<[string], VmRow>(`SELECT ${columns} FROM vms WHERE name = ?`).get(reference);
  if (named) return toVm(named);
  const isPrefix = reference.length >= minPrefixLength && /^[0-9a-f]+$/.test(reference);
  const matches = isPrefix
    ? db
        .prepare<[number, string], VmRow>(
          `SELECT ${columns} FROM vms WHERE substr(id, 1, ?) = ? ORDER BY name`,
        )
        .all(reference.length, reference)
    : [];
  if (matches.length === 1) return toVm(matches[0]!);
  if (matches.length > 1) {
    const names = matches.map((row) => row.name).join(', ');
    throw new BangerError('invalid_argument', `"${reference}" could be any of these VMs: ${names}`, {
      hint: 'Give a name or more digits of the id',
    });
  }
  throw new BangerError('not_found', `There is no VM named "${reference}"`, {
    hint: didYouMean(db, reference) ?? 'List VMs with: banger vm list',
  });
}

function toVm(row: VmRow): Vm {
  return {
    ...row,
    address: row.address ?? undefined,
    kernelId: row.kernelId ?? undefined,
    ephemeral: row.ephemeral === 1,
    labels: JSON.parse(row.labels) as Labels,
    ports: parsePorts(row.ports),
    sockets: parseSockets(row.sockets),
    fileSync: JSON.parse(row.fileSync) as VmFileSync[],
    takesConfigFiles: row.takesConfigFiles === 1,
    egress: parseEgress([row.egress]),
    publishesAll: row.publishesAll === 1,
    ttlMs: row.ttlMs ?? undefined,
    idleStopMs: row.idleStopMs ?? undefined,
    startedAt: row.startedAt ?? undefined,
    stoppedAt: row.stoppedAt ?? undefined,
    lastError: row.lastError ?? undefined,
  };
}
