import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { basename, join } from 'node:path';
import BetterSqlite from 'better-sqlite3';
import { vmPaths, type Layout } from '../../src/state/layout.ts';
import { until } from './banger.ts';

interface VmRow {
  readonly id: string;
  readonly name: string;
  readonly state: string;
  readonly ephemeral: number;
}

/**
 * Looks at everything that an engine can leave on a host, without asking an engine: processes, ports, files, sockets,
 * rows. What it finds nobody's is returned as sentences.
 */
export class HostWorld {
  readonly #layout: Layout;
  readonly #home: string;
  readonly #topLevel: ReadonlySet<string>;
  readonly #vmFiles: ReadonlySet<string>;
  /** Ports that led into VMs, by VM id */
  readonly #ports = new Map<string, number>();

  /** To be made when all is well and a VM runs: files of kinds that are not there then are somebody's leftovers. */
  constructor(layout: Layout, home: string) {
    this.#layout = layout;
    this.#home = home;
    this.#topLevel = new Set([...namesIn(layout.stateDirectory), 'patches']);
    const known = this.vms().flatMap((vm) => namesIn(join(layout.vmsDirectory, vm.id)));
    this.#vmFiles = new Set([
      ...known.flatMap((name) => (name.endsWith('.log') ? [name, `${name}.1`, `${name}.before`] : [name])),
      basename(vmPaths(layout, '').manifests),
    ]);
  }

  vms(): VmRow[] {
    return this.#rows<VmRow>('SELECT id, name, state, ephemeral FROM vms ORDER BY name');
  }

  state(name: string): string | undefined {
    return this.vms().find((vm) => vm.name === name)?.state;
  }

  imageNames(): string[] {
    return this.#rows<{ name: string }>('SELECT name FROM image_names ORDER BY name').map((row) => row.name);
  }

  /** Downloads that were cut short, kept to go on with */
  partialBlobs(): string[] {
    return namesIn(this.#layout.blobsDirectory).filter((name) => name.endsWith('.partial'));
  }

  /** What should not be there. An engine must have been running for a while, with nothing left to do. */
  async findTrouble(enginePid: number): Promise<string[]> {
    const strays = () => this.#processes(enginePid).filter(({ vm }) => vm === undefined);
    // A program that a killed engine had started may take a moment to end.
    await until('programs of a killed engine end', () => strays().length === 0, 10_000).catch(
      () => undefined,
    );
    return [
      ...strays().map(({ words }) => `process of nobody: ${words.join(' ').slice(0, 200)}`),
      ...this.#rowTrouble(),
      ...this.#processTrouble(enginePid),
      ...this.#fileTrouble(),
    ];
  }

  #rowTrouble(): string[] {
    return this.vms().flatMap(({ name, state, ephemeral }) => [
      ...(['running', 'stopped', 'paused'].includes(state) ? [] : [`VM "${name}" stays ${state}`]),
      ...(ephemeral === 1 ? [`VM "${name}" belongs to a run that is over`] : []),
    ]);
  }

  #processTrouble(enginePid: number): string[] {
    const vmms = this.#processes(enginePid).filter(({ vm }) => vm !== undefined);
    const listening = listeningPorts();
    return [
      ...this.vms().flatMap(({ id, name, state }) => {
        const count = vmms.filter(({ vm }) => vm === id).length;
        return count === (isUp(state) ? 1 : 0) ? [] : [`VM "${name}" is ${state} and has ${count} VMMs`];
      }),
      ...vmms.filter(({ vm }) => !this.#isRow(vm!)).map(({ vm }) => `a VMM of no VM: ${vm}`),
      ...[...this.#ports].flatMap(([id, port]) => {
        const shouldListen = this.vms().some((vm) => vm.id === id && isUp(vm.state));
        this.#ports.delete(id);
        return !shouldListen && listening.has(port) ? [`port ${port} is still taken`] : [];
      }),
      ...this.#upVms().flatMap(({ id, name }) => {
        const { sshPort } = JSON.parse(readFileSync(vmPaths(this.#layout, id).handles, 'utf8')) as {
          sshPort: number;
        };
        this.#ports.set(id, sshPort);
        return listening.has(sshPort) ? [] : [`nobody listens on port ${sshPort} of VM "${name}"`];
      }),
    ];
  }

  #fileTrouble(): string[] {
    const { stateDirectory, vmsDirectory, imagesDirectory, runtimeDirectory, scratchDirectory } =
      this.#layout;
    const images = new Set(this.#rows<{ id: string }>('SELECT id FROM images').map((row) => row.id));
    const sockets = ['engine.sock', ...this.#upVms().map((vm) => vmPaths(this.#layout, vm.id).controlSocket)];
    const files = this.vms().flatMap(({ id, name, state }) =>
      namesIn(join(vmsDirectory, id))
        .filter((file) => !this.#vmFiles.has(file) || (file === 'handles.json' && !isUp(state)))
        .map((file) => `file of VM "${name}", which is ${state}: ${file}`),
    );
    const strangers: [string, string[]][] = [
      // The directory for things put aside may stay, with nothing in it.
      [
        'state directory',
        namesIn(stateDirectory).filter(
          (name) => !this.#topLevel.has(name) && name !== basename(scratchDirectory),
        ),
      ],
      ['put aside', namesIn(scratchDirectory)],
      ['directory of no VM', namesIn(vmsDirectory).filter((id) => !this.#isRow(id))],
      ['image of no row', namesIn(imagesDirectory).filter((id) => id !== '.staging' && !images.has(id))],
      ['image without files', [...images].filter((id) => !namesIn(imagesDirectory).includes(id))],
      ['manifest of no sending', this.#strayManifests()],
      ['staging directory', namesIn(this.#layout.imageStagingDirectory)],
      ['socket', namesIn(runtimeDirectory).filter((name) => !sockets.some((path) => path.endsWith(name)))],
      ['temporary file', everyFile(stateDirectory).filter((path) => path.endsWith('.tmp'))],
    ];
    return [...files, ...strangers.flatMap(([what, names]) => names.map((name) => `${what}: ${name}`))];
  }

  /** Processes that work for this home, with the VM they are the VMM of. The engine is not one of them. */
  #processes(enginePid: number): { readonly vm: string | undefined; readonly words: readonly string[] }[] {
    return readdirSync('/proc')
      .filter((pid) => /^\d+$/.test(pid) && Number(pid) !== enginePid)
      .map((pid) => commandLine(pid))
      .filter((words) => words.some((word) => word.includes(this.#home)))
      .map((words) => ({ words, vm: /^banger-([0-9a-f]{32})$/.exec(words[2] ?? '')?.[1] }));
  }

  #strayManifests(): string[] {
    const sendings = this.#rows<{ token: string | null }>(
      'SELECT token FROM workspaces UNION SELECT token FROM workspace_sends',
    );
    return this.vms()
      .flatMap(({ id }) => namesIn(vmPaths(this.#layout, id).manifests))
      .filter((name) => !sendings.some(({ token }) => name.endsWith(`-${token}.manifest`)));
  }

  #upVms(): VmRow[] {
    return this.vms().filter((vm) => isUp(vm.state));
  }

  #isRow(id: string): boolean {
    return this.vms().some((vm) => vm.id === id);
  }

  #rows<T>(sql: string): T[] {
    const db = new BetterSqlite(this.#layout.database, { readonly: true });
    try {
      return db.prepare<[], T>(sql).all();
    } finally {
      db.close();
    }
  }
}

function isUp(state: string): boolean {
  return state === 'running' || state === 'paused';
}

/** Ports of the loopback, and of all addresses, on which somebody listens; see proc_net_tcp. */
export function listeningPorts(): ReadonlySet<number> {
  const lines = readFileSync('/proc/net/tcp', 'utf8').trim().split('\n').slice(1);
  const sockets = lines.map((line) => line.trim().split(/\s+/)).filter((fields) => fields[3] === '0A');
  return new Set(sockets.map((fields) => Number.parseInt(fields[1]!.split(':')[1]!, 16)));
}

/** A zombie has no words, and counts as gone. */
function commandLine(pid: string): string[] {
  try {
    readlinkSync(`/proc/${pid}/exe`);
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0');
  } catch {
    return [];
  }
}

function namesIn(directory: string): string[] {
  try {
    return readdirSync(directory).toSorted();
  } catch {
    return [];
  }
}

function everyFile(directory: string): string[] {
  return readdirSync(directory, { recursive: true, encoding: 'utf8' });
}
