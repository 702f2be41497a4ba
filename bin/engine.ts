import { runEngine } from '../src/engine/main.ts';
import { buildInfo, loadAddon, openAssets } from '../src/host/assets.ts';
import { ownLayout } from './own-layout.ts';

/** The engine process: everything it needs of the binary, then the engine itself until it is over. */
export async function startEngine(): Promise<void> {
  process.title = 'banger-engine';
  const layout = ownLayout();
  const assets = openAssets(layout.assetsDirectory);
  await runEngine({ layout, assets, build: buildInfo(), addon: await loadAddon(assets) });
}
