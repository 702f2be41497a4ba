import { BangerError } from '../../../errors.ts';
import { loginNeeded } from './registry-auth.ts';

export interface StatusContext {
  /** As in messages and `docker login` */
  readonly registry: string;
  readonly repository: string;
  /** As the user would write it */
  readonly image: string;
  /** The login was sent */
  readonly hadCredentials: boolean;
  /** and a token given for it */
  readonly wasAccepted: boolean;
  /** Host that did not get the login */
  readonly withheldFrom: string | undefined;
}

/** Turns a status that is not the one hoped for into words. What the registry wrote is not repeated: it may echo secrets. */
export function statusError(status: number, context: StatusContext): BangerError {
  const { registry, repository, image, hadCredentials, wasAccepted, withheldFrom } = context;
  if (status === 404) {
    return new BangerError('not_found', `There is no image "${image}" at registry "${registry}"`, {
      hint: 'Check name and tag; images on this host are listed with: banger image list',
    });
  }
  if (status === 401 || status === 403)
    return loginNeeded({ name: registry, repository, hadCredentials, wasAccepted, withheldFrom });
  if (status === 429) {
    return new BangerError('command_failed', `Registry "${registry}" takes no more requests for now`, {
      hint: `Wait, or raise the limit by logging in: docker login${registry === 'docker.io' ? '' : ` ${registry}`}`,
    });
  }
  if (status >= 500) {
    return new BangerError(
      'command_failed',
      `Registry "${registry}" is broken: it answers with status ${status}`,
      {
        hint: `Try again later: banger image pull ${image}`,
      },
    );
  }
  return new BangerError('command_failed', `Registry "${registry}" answers with status ${status}`, {
    hint: `Check that "${registry}" is a container registry`,
  });
}
