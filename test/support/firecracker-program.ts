import { chmodSync, existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { readYaml } from './read-yaml.ts';

/** What the fake does wrong instead of answering a request. */
export interface Misdeed {
  readonly method: 'GET' | 'PUT' | 'PATCH';
  readonly path: string;
  /** `lies`: says that all is well and does nothing, or answers with `words` */
  readonly does: 'fails' | 'stalls' | 'dies' | 'is killed' | 'lies';
  readonly status?: number;
  readonly words?: string;
}

/** How the fake behaves. Read anew at each request. */
export interface FakeScript {
  readonly version: string;
  readonly misdeeds: readonly Misdeed[];
  /** What the guest prints when it starts */
  readonly console?: string;
  /** Why it does not start its guest */
  readonly refusesStart?: string;
}

export interface RecordedRequest {
  readonly method: string;
  readonly path: string;
  readonly body: unknown;
}

export interface FakeFirecracker {
  /** To be started as Firecracker is */
  readonly program: string;
  behave(script: Partial<FakeScript>): void;
  /** What it was asked so far, other than about itself */
  readonly changes: readonly RecordedRequest[];
  /** Sizes of disks that it was told to look at again */
  readonly sizes: readonly number[];
}

const specificationFile = resolve(import.meta.dirname, '../../../shared/facts/firecracker-api.yaml');

/** Why requests are not checked against the API's specification; undefined when they are. */
export const noSpecification = existsSync(specificationFile)
  ? undefined
  : `the specification of Firecracker's API is not at ${specificationFile}: requests are checked for their order only`;

let specification: string | undefined;

/** Makes a fake Firecracker in a directory; see fake-firecracker.ts. */
export async function makeFakeFirecracker(directory: string): Promise<FakeFirecracker> {
  const program = join(directory, 'firecracker');
  const fake = fileURLToPath(import.meta.resolve('./fake-firecracker.ts'));
  writeFileSync(
    program,
    `#!/bin/sh\nFAKE_DIRECTORY='${directory}' exec '${process.execPath}' '${fake}' "$@"\n`,
  );
  chmodSync(program, 0o700);
  if (noSpecification === undefined) {
    specification ??= JSON.stringify(await readYaml(readFileSync(specificationFile, 'utf8')));
    writeFileSync(join(directory, 'specification.json'), specification);
  } else process.stderr.write(`Note: ${noSpecification}\n`);
  let script: FakeScript = { version: '1.14.1', misdeeds: [] };
  const behave = (changes: Partial<FakeScript>): void => {
    script = { ...script, ...changes };
    writeFileSync(join(directory, 'script.json'), JSON.stringify(script));
  };
  behave({});
  return {
    program,
    behave,
    get changes() {
      return requestsIn(directory);
    },
    get sizes() {
      return linesOf(join(directory, 'sizes')).map(Number);
    },
  };
}

/** What the fake of a directory was asked so far, other than about itself. */
export function requestsIn(directory: string): RecordedRequest[] {
  return linesOf(join(directory, 'requests.jsonl'))
    .map((line) => JSON.parse(line) as { method: string; path: string; body: string })
    .filter(({ method }) => method !== 'GET')
    .map(({ body, ...request }) => ({ ...request, body: JSON.parse(body) as unknown }));
}

function linesOf(path: string): string[] {
  return existsSync(path) ? readFileSync(path, 'utf8').trimEnd().split('\n') : [];
}
