import { basename } from 'node:path';
import { withSystemPrograms } from '../src/host/system-programs.ts';

/** Hidden first word that makes this process the engine. */
const engineWord = '__engine';

/** Git runs banger under this name for `banger::` URLs; the hidden word is for those who call it by its own. */
const remoteHelper = { name: 'git-remote-banger', word: 'git-remote' };

async function main(): Promise<void> {
  process.env['PATH'] = withSystemPrograms(process.env['PATH']);
  const isRemoteHelper = basename(process.argv0) === remoteHelper.name;
  const words = [...(isRemoteHelper ? [remoteHelper.word] : []), ...process.argv.slice(2)];
  if (words[0] === engineWord) {
    const { startEngine } = await import('./engine.ts');
    await startEngine();
    // ssh2 and the database leave nothing running that matters; a stray timer must not keep an engine without a socket.
    process.exit();
  }
  const { runCommand } = await import('./cli.ts');
  process.exitCode = await runCommand(words, engineWord);
}

void main().catch((error: unknown) => {
  process.stderr.write(
    `banger: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`,
  );
  process.exitCode = 1;
});
