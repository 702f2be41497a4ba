/** Hidden first word that makes this process the engine. */
const engineWord = '__engine';

async function main(): Promise<void> {
  const words = process.argv.slice(2);
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
