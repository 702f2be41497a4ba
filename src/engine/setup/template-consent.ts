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
import { isUsualPlace } from '../workspace/guest-path.ts';
import { isHarmless } from './harmless-variables.ts';
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
 * What nobody gets without asking: commands, variables and a place by which programs may run code of the tree, and ports
 * that others than this host can reach.
 */
export interface AsksFor {
  readonly commands: readonly string[];
  /** `NAME=value` */
  readonly variables: readonly string[];
  /** Where the tree goes in the guest */
  readonly place?: string;
  readonly ports: readonly string[];
}

export function asksFor({ setup, ports, env, guestPath }: Template): AsksFor {
  return {
    commands: setup.map(({ text }) => text),
    variables: Object.entries(env).flatMap(([name, value]) =>
      isHarmless(name, value) ? [] : [`${name}=${value}`],
    ),
    place: guestPath === undefined || isUsualPlace(guestPath) ? undefined : guestPath,
    ports: ports.filter(({ bind }) => bind !== loopback).map(portText),
  };
}

/** True when the user has to agree first. */
export function needsConsent(db: Database, hostPath: string, template: Template): boolean {
  const { commands, variables, place, ports } = asksFor(template);
  const asks = commands.length + variables.length + ports.length > 0 || place !== undefined;
  return asks && !isTrusted(db, hostPath, template);
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
