/** Updates of a training whose cache is whole: `potstill_step.ts THREADS RECIPE CHANGES`, the changes as a JSON list. */
import { ensureCache } from '../../ts/cache/index.ts';
import { loadEngine } from '../../ts/native/index.ts';
import { loadRecipe } from '../../ts/recipe/index.ts';
import { assemble } from '../../ts/train/assemble.ts';
import { Trainer } from '../../ts/train/trainer.ts';
import { serve } from '../lib/serve.ts';

const [threads, file = '', changes = '[]'] = process.argv.slice(2);
const engine = await loadEngine({ threads: Number(threads) });
const { recipe } = await loadRecipe(file, { set: JSON.parse(changes) });
const trainer = new Trainer((await assemble(engine, recipe, await ensureCache(recipe, engine))).parts);
let number = 0;
await serve({ kernels: engine.kernelClass }, async () => {
  const begun = performance.now();
  await trainer.update(number++);
  return (performance.now() - begun) / 1000;
});
