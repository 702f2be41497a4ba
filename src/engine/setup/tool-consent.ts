import { BangerError } from '../../errors.ts';
import type { Database } from '../../state/database.ts';
import { isTrusted, trust } from '../../state/templates.ts';
import type { ToolFiles } from './tool-files.ts';

/** Stands for all files of a tree that mise reads; no template is called that. */
const file = 'mise';

/** True when mise would do more than install tools, and the user has yet to agree to that. */
export function toolsNeedConsent(db: Database, hostPath: string, { demanding, sha256 }: ToolFiles): boolean {
  return demanding.length > 0 && !isTrusted(db, hostPath, { file, sha256 });
}

/** Throws unless the user has agreed to these bytes, now (`agreed` is their hash) or before. */
export function admitTools(
  db: Database,
  {
    hostPath,
    files,
    agreed,
  }: { readonly hostPath: string; readonly files: ToolFiles; readonly agreed?: string },
): void {
  if (!toolsNeedConsent(db, hostPath, files)) return;
  const unseen = files.demanding.find(({ isUnseen }) => isUnseen);
  if (unseen)
    throw new BangerError(
      'invalid_argument',
      `"${unseen.name}" of "${hostPath}", which mise would read, cannot be shown, and so not be agreed to ${unseen.text}`,
      { hint: 'Put a plain file in its place, or go without the tools: --no-bootstrap' },
    );
  if (agreed === files.sha256) return trust(db, hostPath, { file, sha256: files.sha256 });
  const names = files.demanding.map(({ name }) => `"${name}"`).join(', ');
  throw new BangerError(
    'invalid_argument',
    `${names} of "${hostPath}" has mise do more than install tools, and nobody has agreed to that`,
    { hint: 'Read it, then agree with --trust, or go without the tools: --no-bootstrap' },
  );
}
