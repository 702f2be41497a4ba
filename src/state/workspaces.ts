import type { Database } from './database.ts';

/** A git working tree that was sent into a VM. */
export interface Workspace {
  readonly vmId: string;
  /** Top of the working tree on the host */
  readonly hostPath: string;
  readonly guestPath: string;
  /** Git tree of what was sent, dirty content included; export compares against it */
  readonly baseTree: string;
  /** Commit at HEAD, absent on an unborn branch */
  readonly head?: string;
  /** Absent on a detached HEAD */
  readonly branch?: string;
  readonly preparedAt: string;
  /** Absent: programs run in it as they are */
  readonly tools?: WorkspaceTools;
  /** Nothing in it is meant to be changed, or to come back */
  readonly isReadOnly?: boolean;
  /** Names the sending that made it what it is; absent when nobody knows */
  readonly token?: string;
}

/** Tools that were installed for a workspace: programs there run through mise. */
export interface WorkspaceTools {
  /** The program in the guest, absolute */
  readonly mise: string;
  /** In the guest, where mise is to look for files: the tree, or files of ours that name tools only; absent in old records */
  readonly directory?: string;
  /** Of the files that name the tools, hex */
  readonly sha256: string;
}

/** A tree that is being put in place. */
export interface WorkspaceSend {
  /** The guest has it once the tree is in place */
  readonly token: string;
  readonly workspace: Workspace;
}

interface WorkspaceRow extends Omit<Workspace, 'head' | 'branch' | 'tools' | 'isReadOnly' | 'token'> {
  readonly head: string | null;
  readonly branch: string | null;
  readonly tools: string | null;
  readonly isReadOnly: number;
  readonly token: string | null;
}

const columns = `vm_id AS vmId, host_path AS hostPath, guest_path AS guestPath, base_tree AS baseTree, head, branch,
  prepared_at AS preparedAt, tools, read_only AS isReadOnly, token`;

/** Records what was sent where; an earlier record of the same place is replaced, its tools aside. */
export function saveWorkspace(db: Database, workspace: Omit<Workspace, 'tools'>): void {
  db.prepare(
    `INSERT INTO workspaces (vm_id, host_path, guest_path, base_tree, head, branch, prepared_at, read_only, token)
     VALUES (@vmId, @hostPath, @guestPath, @baseTree, @head, @branch, @preparedAt, @isReadOnly, @token)
     ON CONFLICT (vm_id, guest_path) DO UPDATE SET host_path = excluded.host_path, base_tree = excluded.base_tree,
       head = excluded.head, branch = excluded.branch, prepared_at = excluded.prepared_at,
       read_only = excluded.read_only, token = excluded.token`,
  ).run({
    ...workspace,
    head: workspace.head ?? null,
    branch: workspace.branch ?? null,
    isReadOnly: workspace.isReadOnly ? 1 : 0,
    token: workspace.token ?? null,
  });
}

/** Records what is about to be put in place. Until `endSend`, what is there may be that, or what was there before. */
export function beginSend(db: Database, { token, workspace }: WorkspaceSend): void {
  db.prepare(
    `INSERT INTO workspace_sends (vm_id, guest_path, token, workspace) VALUES (?, ?, ?, ?)
     ON CONFLICT (vm_id, guest_path) DO UPDATE SET token = excluded.token, workspace = excluded.workspace`,
  ).run(workspace.vmId, workspace.guestPath, token, JSON.stringify(workspace));
}

/** Records what is in place now: what was sent, or what was there before. */
export function endSend(db: Database, { token, workspace }: WorkspaceSend, isInPlace: boolean): void {
  db.transaction(() => {
    if (isInPlace) saveWorkspace(db, { ...workspace, token });
    db.prepare('DELETE FROM workspace_sends WHERE vm_id = ? AND guest_path = ?').run(
      workspace.vmId,
      workspace.guestPath,
    );
  })();
}

/** What was being put in place in a VM when it was last heard of. */
export function listSends(db: Database, vmId: string): WorkspaceSend[] {
  return db
    .prepare<[string], { token: string; workspace: string }>(
      'SELECT token, workspace FROM workspace_sends WHERE vm_id = ? ORDER BY guest_path',
    )
    .all(vmId)
    .map(({ token, workspace }) => ({ token, workspace: JSON.parse(workspace) as Workspace }));
}

/** Records the tools of a workspace, or that there are none. */
export function setWorkspaceTools(
  db: Database,
  { vmId, guestPath }: Pick<Workspace, 'vmId' | 'guestPath'>,
  tools: WorkspaceTools | undefined,
): void {
  db.prepare('UPDATE workspaces SET tools = ? WHERE vm_id = ? AND guest_path = ?').run(
    tools ? JSON.stringify(tools) : null,
    vmId,
    guestPath,
  );
}

/** Workspaces of a VM, the latest first. */
export function listWorkspaces(db: Database, vmId: string): Workspace[] {
  return db
    .prepare<[string], WorkspaceRow>(
      `SELECT ${columns} FROM workspaces WHERE vm_id = ? ORDER BY prepared_at DESC`,
    )
    .all(vmId)
    .map(toWorkspace);
}

/** Workspaces of all VMs by VM id, the latest first. */
export function workspacesByVm(db: Database): Map<string, Workspace[]> {
  const rows = db
    .prepare<[], WorkspaceRow>(`SELECT ${columns} FROM workspaces ORDER BY prepared_at DESC`)
    .all();
  return Map.groupBy(rows.map(toWorkspace), ({ vmId }) => vmId);
}

/** Every VM's workspace made from this working tree, the latest first. */
export function findWorkspacesByHostPath(db: Database, hostPath: string): Workspace[] {
  return db
    .prepare<[string], WorkspaceRow>(
      `SELECT ${columns} FROM workspaces WHERE host_path = ? ORDER BY prepared_at DESC`,
    )
    .all(hostPath)
    .map(toWorkspace);
}

function toWorkspace(row: WorkspaceRow): Workspace {
  return {
    ...row,
    head: row.head ?? undefined,
    branch: row.branch ?? undefined,
    tools: row.tools === null ? undefined : (JSON.parse(row.tools) as WorkspaceTools),
    isReadOnly: row.isReadOnly === 1,
    token: row.token ?? undefined,
  };
}
