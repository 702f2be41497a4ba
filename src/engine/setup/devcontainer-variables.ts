/** `${name}`, `${localEnv:NAME}`, `${containerEnv:NAME:default}`. A shell's own `${NAME:-default}` is none. */
const reference = /\$\{(?:(localEnv|containerEnv):(\w+)(?::([^}]*))?|(\w+))\}/g;

/** Those of the format that are about this host; nobody else can fill them in. */
const ofThisHost = /\$\{(?:localWorkspaceFolder|devcontainerId)\}/;

export interface Known {
  /** By name, such as `containerWorkspaceFolder` */
  readonly names: Readonly<Record<string, string>>;
  /** Variables of the container, as far as the file itself sets them */
  readonly containerEnv?: Readonly<Record<string, string>>;
}

/**
 * Fills in what is known. The environment of this host is not: a tree must not choose what it gets of that. Of one of its
 * variables only the default counts, as if it were not set here. What stays unknown stays as it is.
 */
export function fillIn(text: string, { names, containerEnv = {} }: Known): string {
  return text.replace(
    reference,
    (whole, place?: string, variable?: string, fallback?: string, name?: string) => {
      if (name !== undefined) return ownValue(names, name) ?? whole;
      return (place === 'containerEnv' ? ownValue(containerEnv, variable!) : undefined) ?? fallback ?? whole;
    },
  );
}

/** Of what the file names alone: objects have a `constructor`, too. */
function ownValue(values: Readonly<Record<string, string>>, name: string): string | undefined {
  return Object.hasOwn(values, name) ? values[name] : undefined;
}

/**
 * Fills in a command's line. What is not known of an environment is for the guest's shell, which has what was given with
 * `--env`: its own way of writing a variable differs.
 */
export function fillInLine(line: string, known: Known): string {
  return line.replace(reference, (whole, place?: string, variable?: string, fallback?: string) => {
    if (place === undefined) return fillIn(whole, known);
    return fallback === undefined ? `\${${variable}}` : `\${${variable}:-${fallback}}`;
  });
}

/** What a command asks for and does not get, as a sentence without its beginning; undefined when that is nothing. */
export function missingOf(text: string): string | undefined {
  for (const [whole, place, variable, fallback] of text.matchAll(reference)) {
    if (place === 'localEnv' && fallback === undefined)
      return `a command takes ${variable} from this host, and does not get it; give it with: --env ${variable}=VALUE`;
    if (ofThisHost.test(whole)) return `a command has "${whole}" in it, which banger does not fill in`;
  }
  return undefined;
}
