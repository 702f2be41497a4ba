import type { Database } from './database.ts';

/** What a tree says about a VM that is made for it: `banger.toml`, or the part of a `devcontainer.json` that we honour. */
export interface Template {
  /** Path below the tree */
  readonly file: string;
  /** Hex, of the file's bytes */
  readonly sha256: string;
  readonly image?: string;
  readonly cpus?: number;
  readonly memoryMib?: number;
  readonly diskBytes?: number;
  readonly ports: readonly TemplatePort[];
  /** Variables of every program in the VM; not secret */
  readonly env: Readonly<Record<string, string>>;
  /** What sets the VM up, in this order, in the working tree in the guest */
  readonly setup: readonly SetupCommand[];
  /** Where the tree goes in the guest, absolute; absent: where trees go */
  readonly guestPath?: string;
  /** False when tools shall not be installed though the tree names some */
  readonly bootstrap: boolean;
}

export interface TemplatePort {
  readonly protocol: 'tcp' | 'udp';
  readonly bind: string;
  /** Absent: any that is free */
  readonly hostPort?: number;
  /** True when another port of the host will do, if that one is taken */
  readonly prefersHostPort?: boolean;
  readonly guestPort: number;
}

export interface SetupCommand {
  /** Run directly; a line for a shell is `sh -c LINE` */
  readonly argv: readonly string[];
  /** As the file says it */
  readonly text: string;
}

/** A template, and the tree that it came from. */
export interface RecordedTemplate {
  /** Top of the working tree on the host */
  readonly hostPath: string;
  readonly template: Template;
}

/** Records what a VM was made from; later edits of the file do not change it. */
export function saveVmTemplate(db: Database, vmId: string, { hostPath, template }: RecordedTemplate): void {
  db.prepare('INSERT INTO vm_templates (vm_id, host_path, sha256, content) VALUES (?, ?, ?, ?)').run(
    vmId,
    hostPath,
    template.sha256,
    JSON.stringify(template),
  );
}

/** What a VM was made from, undefined when no tree said anything. */
export function findVmTemplate(db: Database, vmId: string): RecordedTemplate | undefined {
  const row = db
    .prepare<[string], { hostPath: string; content: string }>(
      'SELECT host_path AS hostPath, content FROM vm_templates WHERE vm_id = ?',
    )
    .get(vmId);
  return row && { hostPath: row.hostPath, template: JSON.parse(row.content) as Template };
}

type FileOfTree = Pick<Template, 'file' | 'sha256'>;

/** True when the user has agreed to these bytes of this file of this tree. */
export function isTrusted(db: Database, hostPath: string, { file, sha256 }: FileOfTree): boolean {
  const row = db
    .prepare('SELECT 1 FROM trusted_templates WHERE host_path = ? AND file = ? AND sha256 = ?')
    .get(hostPath, file, sha256);
  return row !== undefined;
}

/** Remembers that the user agrees. */
export function trust(db: Database, hostPath: string, { file, sha256 }: FileOfTree): void {
  db.prepare(
    'INSERT OR IGNORE INTO trusted_templates (host_path, file, sha256, trusted_at) VALUES (?, ?, ?, ?)',
  ).run(hostPath, file, sha256, new Date().toISOString());
}
