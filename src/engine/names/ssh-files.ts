import { readFile, rm } from 'node:fs/promises';
import { existsSync } from 'node:fs';
import { errnoOf, errorText } from '../../errors.ts';
import { writeFileAtomic } from '../../host/files.ts';
import { listVms } from '../../state/vms.ts';
import type { EngineContext } from '../context.ts';
import { knownHostsText, sshConfigText, type OwnProgram } from './ssh-config.ts';

type FilesContext = Pick<EngineContext, 'db' | 'layout' | 'events' | 'log'>;

/** Changes after which other VMs are there, or the same under other names. */
const changes = new Set(['creating', 'renamed', 'deleted']);

/**
 * The files by which OpenSSH knows VMs. Host keys are brought up to date for each connection; the configuration, once
 * the user has asked for it, whenever a VM comes, goes or is renamed.
 */
export class SshFiles {
  readonly #context: FilesContext;
  readonly #program: OwnProgram;
  readonly #unsubscribe: () => void;
  #writing: Promise<void> = Promise.resolve();
  #isDue = false;

  constructor(context: FilesContext, program: OwnProgram) {
    this.#context = context;
    this.#program = program;
    this.#unsubscribe = context.events.subscribe(({ type, action }) => {
      if (type === 'vm' && changes.has(action)) this.#look();
    });
    // Another build may have written it, from another place.
    this.#look();
  }

  get isKept(): boolean {
    return existsSync(this.#context.layout.sshConfig);
  }

  hosts(): string[] {
    return listVms(this.#context.db).map(({ name }) => name);
  }

  text(): string {
    const { clientKey, knownHosts } = this.#context.layout;
    return sshConfigText({
      program: this.#program,
      identityFile: clientKey,
      knownHosts,
      vms: this.hosts(),
    });
  }

  /** Writes the configuration, and keeps it. */
  async keep(): Promise<void> {
    // Throws here, and not where nobody is told.
    this.text();
    await this.#inTurn(() => this.#write(this.#context.layout.sshConfig, this.text()));
    await this.writeKnownHosts();
  }

  async forget(): Promise<void> {
    await this.#inTurn(() => rm(this.#context.layout.sshConfig, { force: true }));
  }

  /** Makes the file of host keys say what is true now. */
  async writeKnownHosts(): Promise<void> {
    const { db, layout } = this.#context;
    await this.#inTurn(() => this.#write(layout.knownHosts, knownHostsText(listVms(db))));
  }

  close(): void {
    this.#unsubscribe();
  }

  /** Several changes at once are written once. */
  #look(): void {
    if (this.#isDue || !this.isKept) return;
    this.#isDue = true;
    const write = (): Promise<void> => {
      this.#isDue = false;
      return this.#context.db.open && this.isKept
        ? this.#write(this.#context.layout.sshConfig, this.text())
        : Promise.resolve();
    };
    this.#inTurn(write).catch((error: unknown) =>
      this.#context.log('warn', `the configuration for ssh could not be written: ${errorText(error)}`),
    );
  }

  #inTurn(write: () => Promise<void>): Promise<void> {
    const turn = this.#writing.then(write);
    this.#writing = turn.catch(() => undefined);
    return turn;
  }

  async #write(path: string, text: string): Promise<void> {
    if ((await contentOf(path)) !== text) await writeFileAtomic(path, text, 0o600);
  }
}

async function contentOf(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return undefined;
    throw error;
  }
}
