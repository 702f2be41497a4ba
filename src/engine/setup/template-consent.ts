import { BangerError } from '../../errors.ts';
import type { Database } from '../../state/database.ts';
import {
  isTrusted,
  trust,
  type RecordedTemplate,
  type Template,
  type TemplatePort,
} from '../../state/templates.ts';
import { loopback } from '../rpc/port-text.ts';
import { readTemplate } from './read-template.ts';

/** What a client saw of a tree's template, and what the user says to it. */
export interface TemplateChoice {
  /** Of the file that was shown */
  readonly sha256: string;
  /** That file, when the user chose one */
  readonly file?: string;
  /** The user agrees to what it asks for, now and later, as long as the file stays as it is */
  readonly trust: boolean;
}

/**
 * Variables by which programs run code, or read it from elsewhere: of loaders, shells, languages, git, mise and what it
 * fetches with.
 */
const codeVariable =
  /^(?:_*MISE_.*|_*RTX_.*|LD_.*|GIT_.*|BASH_.*|ENV|SHELLOPTS|BASHOPTS|PS[0-4]|PROMPT_COMMAND|ZDOTDIR|IFS|PATH|SHELL|HOME|XDG_.*_HOME|XDG_.*_DIRS|NODE_OPTIONS|NODE_PATH|NPM_CONFIG_.*|PYTHON.*|PIP_.*|UV_.*|PERL5?(?:LIB|OPT|DB)|RUBY(?:LIB|OPT)|GEM_.*|BUNDLE_.*|_?JAVA_.*|JDK_JAVA_OPTIONS|MAVEN_OPTS|GRADLE_OPTS|CLASSPATH|GO(?:FLAGS|PROXY|ENV)|CARGO_.*|RUST(?:C|UP)_.*|GCONV_PATH|CURL_HOME|WGETRC|SSL_CERT_.*|EDITOR|VISUAL|PAGER|LESS(?:OPEN|CLOSE)|ASDF_.*|.*_PROXY)$/i;

/** What nobody gets without asking: commands, variables that load some, and ports that others than this host can reach. */
export interface AsksFor {
  readonly commands: readonly string[];
  /** `NAME=value` */
  readonly variables: readonly string[];
  readonly ports: readonly string[];
}

export function asksFor({ setup, ports, env }: Template): AsksFor {
  return {
    commands: setup.map(({ text }) => text),
    variables: Object.entries(env).flatMap(([name, value]) =>
      codeVariable.test(name) ? [`${name}=${value}`] : [],
    ),
    ports: ports.filter(({ bind }) => bind !== loopback).map(portText),
  };
}

/** True when the user has to agree first. */
export function needsConsent(db: Database, hostPath: string, template: Template): boolean {
  const { commands, variables, ports } = asksFor(template);
  return commands.length + variables.length + ports.length > 0 && !isTrusted(db, hostPath, template);
}

/**
 * Gives the template of a tree as it was shown to the user, once they have agreed to it; see docs/decisions/templates.md.
 * Throws `busy` when the file is not the one that was shown any more, `invalid_argument` without consent.
 */
export async function admitTemplate(
  db: Database,
  hostPath: string,
  { choice, hasImage }: { readonly choice: TemplateChoice; readonly hasImage: boolean },
): Promise<RecordedTemplate> {
  const read = await readTemplate(hostPath, { hasImage, file: choice.file });
  if (read?.template.sha256 !== choice.sha256) {
    throw new BangerError('busy', `What "${hostPath}" says about its VM has changed since it was read`, {
      hint: 'Look at it, then try again',
    });
  }
  const { template } = read;
  if (needsConsent(db, hostPath, template)) {
    if (!choice.trust) throw consentMissing(hostPath, template);
    trust(db, hostPath, template);
  }
  return { hostPath, template };
}

export function consentMissing(hostPath: string, { file }: Pick<Template, 'file'>): BangerError {
  return new BangerError(
    'invalid_argument',
    `Nobody has agreed to what "${file}" of "${hostPath}" asks for`,
    {
      hint: 'Read it, then agree with --trust, or go without it: --no-template',
    },
  );
}

/** As `--publish` takes it. */
export function portText({ protocol, bind, hostPort, guestPort, prefersHostPort }: TemplatePort): string {
  const address = bind === loopback ? '' : `${bind}:`;
  const host = hostPort === undefined || prefersHostPort ? address && ':' : `${hostPort}:`;
  return `${address}${host}${guestPort}${protocol === 'udp' ? '/udp' : ''}`;
}
