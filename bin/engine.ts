import { isSea } from 'node:sea';
import { BangerError, errorText, explainHostError } from '../src/errors.ts';
import { failpointsFrom } from '../src/engine/failpoints.ts';
import { runEngine } from '../src/engine/main.ts';
import { forgetAllocatorEnv } from '../src/engine/rpc/allocator-env.ts';
import { buildInfo, loadAddon, openAssets } from '../src/host/assets.ts';
import { layoutVariables } from '../src/state/layout.ts';
import { ownLayout } from './own-layout.ts';

/** The engine process: everything it needs of the binary, then the engine itself until it is over. */
export async function startEngine(): Promise<void> {
  process.title = 'banger-engine';
  forgetAllocatorEnv(process.env);
  const layout = ownLayout();
  // It is of the shell that happened to start us, and may go with it.
  delete process.env['TMPDIR'];
  const assets = openAssets(layout.assetsDirectory);
  try {
    await runEngine({
      layout,
      assets,
      build: buildInfo(),
      addon: await loadAddon(assets),
      program: {
        argv: [process.execPath, ...(isSea() ? [] : [process.argv[1]!])],
        env: Object.fromEntries(
          layoutVariables
            .filter((name) => name === 'BANGER_HOME' || !process.env['BANGER_HOME'])
            .map((name) => [name, process.env[name]]),
        ),
      },
      failpoints: failpointsFrom(process.env),
    });
  } catch (error) {
    // Its last words, for whoever waits for it to start: stderr is the engine's log (see rpc/start-engine.ts).
    const { code, message, hint } =
      error instanceof BangerError
        ? error
        : (explainHostError(error) ??
          new BangerError('internal', `The engine failed: ${errorText(error)}`, {
            hint: `Its log has the details: tail ${layout.engineLog}`,
          }));
    const stack = error instanceof BangerError || !(error instanceof Error) ? undefined : error.stack;
    const line = { time: new Date().toISOString(), level: 'fatal', message, code, hint, stack };
    process.stderr.write(`${JSON.stringify(line)}\n`);
    process.exitCode = 1;
  }
}
