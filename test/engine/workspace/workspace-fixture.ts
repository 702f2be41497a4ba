import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { execFileSync } from 'node:child_process';
import type { WorkspaceContext } from '../../../src/engine/context.ts';
import { createLocks } from '../../../src/engine/locks.ts';
import type { ExportHead } from '../../../src/engine/rpc/workspace-methods.ts';
import type { Operation } from '../../../src/engine/operations.ts';
import { applyWorkspace } from '../../../src/engine/workspace/apply-workspace.ts';
import type { WantedWorkspace } from '../../../src/engine/workspace/bound-vm.ts';
import { exportWorkspace } from '../../../src/engine/workspace/export-workspace.ts';
import { planWorkspace } from '../../../src/engine/workspace/plan-workspace.ts';
import { prepareWorkspace, type EnsureVm } from '../../../src/engine/workspace/prepare-workspace.ts';
import { exec, type Exec } from '../../../src/host/exec.ts';
import { openDatabase } from '../../../src/state/database.ts';
import { resolveLayout, vmPaths } from '../../../src/state/layout.ts';
import { getVm, insertVm, moveVm } from '../../../src/state/vms.ts';
import { createFakeGuest, type FakeGuestOptions } from '../../support/fake-guest.ts';
import { guestPrograms } from '../../support/guest-programs.ts';
import {
  createRepo,
  gitEnvironment,
  makeTempDirectory,
  openRepo,
  type GitRepo,
} from '../../support/git-repo.ts';

/** What an export says, and its patch in base64. */
export type Exported = ExportHead & { readonly patch: string };

type ApplyParams = Partial<Parameters<typeof applyWorkspace>[1]> & {
  readonly context?: WorkspaceContext;
  readonly operation?: Operation;
};

export const vmId = 'a'.repeat(32);

/** A host repository, a running VM whose guest is a directory of this host, and the engine's view of both. */
export interface Fixture {
  readonly directory: string;
  readonly repo: GitRepo;
  readonly guestPath: string;
  readonly context: WorkspaceContext;
  readonly operation: Operation;
  readonly stages: string[];
  readonly ensureVm: EnsureVm;
  readonly commands: (readonly string[])[];
  /** The guest's copy */
  readonly copy: GitRepo;
  /** By the fixture's operation, or another one */
  prepare(
    params?: Partial<Parameters<typeof prepareWorkspace>[1]>,
    operation?: Operation,
  ): ReturnType<typeof prepareWorkspace>;
  /** What `prepare` would send */
  plan(params?: Partial<Parameters<typeof planWorkspace>[1]>): ReturnType<typeof planWorkspace>;
  /** Of the repository's tree, or another that was sent */
  export(params?: WantedWorkspace): Promise<Exported>;
  /** Merges what changed in the guest into the host's tree; `context` and `operation` are the fixture's unless given */
  apply(params?: ApplyParams): ReturnType<typeof applyWorkspace>;
  /** Exports, checks that the patch applies to the host's tree as it was sent, and applies it */
  exportAndApply(): Promise<Exported>;
  remove(): void;
}

/** Git on the host as the engine runs it, but blind to the configuration of whoever runs the tests. */
export const hermeticExec: Exec = (argv, options = {}) =>
  exec(argv, { ...options, env: { ...options.env, ...gitEnvironment } });

export function createFixture(guestOptions: FakeGuestOptions = {}): Fixture {
  const { path: directory, remove } = makeTempDirectory();
  const repo = createRepo(join(directory, 'project'));
  const guestPath = join(directory, 'guest', 'project');
  const { guest, commands } = createFakeGuest({
    programs: guestPrograms(),
    state: join(directory, 'guest-state'),
    ...guestOptions,
  });
  const db = openDatabase(':memory:');
  addImage(db);
  addRunningVm(db, { id: vmId, name: 'web' });
  const context: WorkspaceContext = {
    layout: resolveLayout({
      env: { BANGER_HOME: directory },
      home: directory,
      uid: 1,
      temporaryDirectory: '/tmp',
    }),
    db,
    locks: createLocks(),
    log: () => undefined,
    exec: hermeticExec,
    assets: {
      buildId: 'test',
      file: () => Promise.reject(new Error('no assets in this test')),
      open: () => {
        throw new Error('no assets in this test');
      },
    },
    guest: async () => guest,
  };
  mkdirSync(vmPaths(context.layout, vmId).directory, { recursive: true });
  const stages: string[] = [];
  const operation: Operation = {
    id: 'op-1',
    kind: 'workspace.prepare',
    signal: new AbortController().signal,
    enter: (stage) => void stages.push(stage),
    progress: () => undefined,
  };
  const ensureVm: EnsureVm = async () => ({ vm: getVm(db, vmId), created: true });
  const runExport: Fixture['export'] = async (params = { path: repo.path }) => {
    const pieces: Buffer[] = [];
    const write = async (piece: Buffer): Promise<void> => void pieces.push(piece);
    const head = await exportWorkspace(context, params, operation, { write });
    return { ...head, patch: Buffer.concat(pieces).toString('base64') };
  };
  return {
    directory,
    repo,
    guestPath,
    context,
    operation,
    stages,
    ensureVm,
    commands,
    copy: openRepo(guestPath),
    prepare: (params = {}, chosen = operation) =>
      prepareWorkspace(
        context,
        {
          path: repo.path,
          guestPath,
          includeUntracked: false,
          include: [],
          overwrite: false,
          fullHistory: false,
          readonly: false,
          ...params,
        },
        chosen,
        ensureVm,
      ),
    plan: (params = {}) =>
      planWorkspace(context, { path: repo.path, includeUntracked: false, include: [], ...params }, operation),
    export: runExport,
    apply: ({ context: view = context, operation: own = operation, ...params } = {}) =>
      applyWorkspace(
        view,
        { path: repo.path, dryRun: false, markers: false, ours: [], umask: 0o022, ...params },
        own,
      ),
    async exportAndApply() {
      const result = await runExport();
      applyPatch(repo.path, Buffer.from(result.patch, 'base64'));
      return result;
    },
    remove() {
      db.close();
      remove();
    },
  };
}

/** What is said of a repository inside the guest's tree. */
export function notTaken({ guestPath }: Fixture, name: string, what: string): string {
  return (
    `"${name}" is a repository of its own: what changed in it is not ${what}. ` +
    `See it with: banger vm exec web -- git -C ${guestPath}/${name} status`
  );
}

export function applyPatch(path: string, patch: Buffer): void {
  const options = { cwd: path, input: patch, env: { PATH: process.env['PATH'], ...gitEnvironment } };
  execFileSync('git', ['apply', '--check', '-'], options);
  execFileSync('git', ['apply', '-'], options);
}

function addImage(db: WorkspaceContext['db']): void {
  db.prepare(
    `INSERT INTO images (id, source, size_bytes, content_bytes, config, layers, os_release, has_shell, created_at)
     VALUES ('image', 'import', 1, 1, '{}', '[]', '{}', 1, '2026-01-01T00:00:00Z')`,
  ).run();
}

export function addRunningVm(
  db: WorkspaceContext['db'],
  { id, name }: { readonly id: string; readonly name: string },
): void {
  insertVm(db, {
    id,
    name,
    imageId: 'image',
    imageName: 'ubuntu',
    cpus: 1,
    memoryMib: 512,
    diskBytes: 1,
    network: 'user',
    hostPublicKey: 'ssh-ed25519 AAAA',
    ephemeral: false,
    controlSocket: `/run/${name}`,
    createdAt: '2026-01-01T00:00:00Z',
  });
  moveVm(db, id, 'starting');
  moveVm(db, id, 'running');
}
