/** Loads a whole checkpoint, `potstill_load.ts MODEL`, and says in one JSON line how many seconds and bytes that took. */
import { componentFolder, loadEngine, openModel, TextEncoder, Unet, Vae } from '../../ts/native/index.ts';

const [folder = ''] = process.argv.slice(2);
/** `maxRSS` counts KiB. */
const peak = (): number => process.resourceUsage().maxRSS * 1024;

const engine = await loadEngine();
const before = peak();
const begun = performance.now();
const model = await openModel(engine, folder);
const loaded = [
  await Unet.open(engine, componentFolder(model, 'unet')),
  await Vae.open(engine, componentFolder(model, 'vae'), model.kind),
  await TextEncoder.open(engine, folder),
];
await engine.settled();
const seconds = (performance.now() - begun) / 1000;
process.stdout.write(`${JSON.stringify({ seconds, before, peak: peak() })}\n`);
for (const handle of loaded) handle.dispose();
