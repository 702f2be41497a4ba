import { BangerError } from '../../errors.ts';
import {
  isTrusted,
  trust,
  type RecordedTemplate,
  type Template,
  type TemplatePort,
} from '../../state/templates.ts';
import type { EngineContext } from '../context.ts';
import { loopback } from '../rpc/port-text.ts';
import { isUsualPlace } from '../workspace/guest-path.ts';
import { isHarmless } from './harmless-variables.ts';
import { isKnownImage } from './known-images.ts';
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

type Context = Pick<EngineContext, 'db' | 'config'>;

/**
 * What nobody gets without asking: an image of whomever, commands, variables and a place by which programs may run code of
 * the tree, and ports that others than this host can reach.
 */
export interface AsksFor {
  readonly image?: string;
  readonly commands: readonly string[];
  /** `NAME=value` */
  readonly variables: readonly string[];
  /** Where the tree goes in the guest */
  readonly place?: string;
  readonly ports: readonly string[];
}

export function asksFor(context: Context, { image, setup, ports, env, guestPath }: Template): AsksFor {
  return {
    image: image === undefined || isKnownImage(context, image) ? undefined : image,
    commands: setup.map(({ text }) => text),
    variables: Object.entries(env).flatMap(([name, value]) =>
      isHarmless(name, value) ? [] : [`${name}=${value}`],
    ),
    place: guestPath === undefined || isUsualPlace(guestPath) ? undefined : guestPath,
    ports: ports.filter(({ bind }) => bind !== loopback).map(portText),
  };
}

/** True when the user has to agree first. `hasImage`: they have chosen an image themselves. */
export function needsConsent(
  context: Context,
  hostPath: string,
  { template, hasImage }: { readonly template: Template; readonly hasImage: boolean },
): boolean {
  const { image, commands, variables, place, ports } = asksFor(context, template);
  const single = [hasImage ? undefined : image, place].filter((one) => one !== undefined);
  const count = single.length + commands.length + variables.length + ports.length;
  return count > 0 && !isTrusted(context.db, hostPath, template);
}

/**
 * Gives the template of a tree as it was shown to the user, once they have agreed to it; see docs/decisions/templates.md.
 * Throws `busy` when the file is not the one that was shown any more, `invalid_argument` without consent.
 */
export async function admitTemplate(
  context: Context,
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
  if (needsConsent(context, hostPath, { template, hasImage })) {
    if (!choice.trust) throw consentMissing(hostPath, template);
    trust(context.db, hostPath, template);
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
