import * as z from 'zod/mini';
import { errorText } from '../../errors.ts';
import type { SetupCommand, Template, TemplatePort } from '../../state/templates.ts';
import { parseTomlFile, sizeText } from '../../state/toml.ts';
import { loopback, parsePortText } from '../rpc/port-text.ts';
import { parseGuestPath } from '../workspace/guest-path.ts';

const mib = 1024 ** 2;
const line = z.string().check(z.regex(/\S/, 'is empty'));
export const variableName = z
  .string()
  .check(z.regex(/^[A-Za-z_][A-Za-z0-9_]*$/, 'the name of a variable is made of letters, digits and _'));
const noZeroByte = z.string().check(z.regex(/^[^\0]*$/, 'has a zero byte in it'));

const guestPath = z.pipe(
  z.string(),
  z.transform((text, context) => {
    try {
      return parseGuestPath(text);
    } catch (error) {
      context.issues.push({ code: 'custom', message: errorText(error), input: text });
      return z.NEVER;
    }
  }),
);

/** A number is a port of the guest, and of the host if it is free there; text is as for `--publish`. */
const port = z.pipe(
  z.union(
    [z.int().check(z.minimum(1), z.maximum(65_535)), z.string()],
    'is not a port: write 3000 or "8080:80"',
  ),
  z.transform((value, context): TemplatePort => {
    if (typeof value === 'number') return samePort(value);
    try {
      return parsePortText(value);
    } catch (error) {
      context.issues.push({ code: 'custom', message: errorText(error), input: value });
      return z.NEVER;
    }
  }),
);

/** `banger.toml`. Every key is optional; a key that is not listed here is an error. */
const schema = z.strictObject({
  image: z.optional(line),
  cpus: z.optional(z.int().check(z.minimum(1))),
  memory: z.optional(sizeText),
  disk: z.optional(sizeText),
  ports: z.optional(z.array(port)),
  /** Where the tree goes in the guest */
  guest_path: z.optional(guestPath),
  /** A line for the guest's shell, or program and arguments */
  setup: z.optional(
    z.array(
      z.union(
        [line, z.array(noZeroByte).check(z.minLength(1))],
        'is neither a command nor an array of words',
      ),
    ),
  ),
  /** Whether tools that the tree names for mise are installed */
  bootstrap: z.optional(z.boolean()),
  env: z.optional(z.record(variableName, noZeroByte)),
  /** The tree may be a stranger's, who would have the user's credentials sent to where the setup commands find them. */
  file_sync: z.optional(
    z.never(
      'a tree cannot ask for files of this host. Name them in your own configuration, or with --file-sync',
    ),
  ),
});

/** Parses the text of a `banger.toml`; `path` is for messages. */
export function parseBangerToml(
  text: string,
  about: Pick<Template, 'file' | 'sha256'> & { readonly path: string },
): Template {
  const { memory, disk, ...parsed } = parseTomlFile(schema, text, about.path);
  return {
    file: about.file,
    sha256: about.sha256,
    image: parsed.image,
    cpus: parsed.cpus,
    memoryMib: memory === undefined ? undefined : Math.floor(memory / mib),
    diskBytes: disk,
    ports: parsed.ports ?? [],
    env: parsed.env ?? {},
    setup: (parsed.setup ?? []).map(setupCommand),
    guestPath: parsed.guest_path,
    bootstrap: parsed.bootstrap ?? true,
  };
}

/** The port of the guest on the same port of the host's loopback, or on another one if that is taken. */
export function samePort(number: number): TemplatePort {
  return { protocol: 'tcp', bind: loopback, hostPort: number, prefersHostPort: true, guestPort: number };
}

/** A line is for the guest's shell; words are run as they are. */
export function setupCommand(command: string | readonly string[]): SetupCommand {
  if (typeof command === 'string') return { argv: ['sh', '-c', command], text: command };
  return {
    argv: command,
    text: command.map((word) => (/^[\w./:=@%+,-]+$/.test(word) ? word : JSON.stringify(word))).join(' '),
  };
}
