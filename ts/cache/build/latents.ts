import { join } from 'node:path';
import type { Engine } from '../../native/engine.ts';
import { scope } from '../../native/scope.ts';
import { Vae } from '../../native/vae.ts';
import type { DataScan } from '../data/scan.ts';
import { loadPixels } from '../images.ts';
import type { LatentsPlan } from '../plan/types.ts';
import { IMAGES_PER_BATCH } from './batches.ts';
import type { ComponentBuild } from './build-component.ts';
import { runsOf } from './runs.ts';

/** How latents are made: every view's picture through the VAE of `model`. */
export function latentsBuild(engine: Engine, plan: LatentsPlan, scan: DataScan, model: string): ComponentBuild {
  return {
    plan,
    label: 'latents',
    unit: 'images',
    open: async () => {
      const vae = await Vae.open(engine, join(model, 'vae'));
      return {
        produce: async (from, to, shard, advance) => {
          for (const run of runsOf({ from, to }, IMAGES_PER_BATCH, (record) => sizeKey(plan, record))) {
            const views = plan.views.slice(run.from, run.to);
            const images = views.map(({ image, view }) => ({
              path: scan.files.get(image) ?? image,
              digest: image,
              view,
            }));
            await scope(async () => {
              const latents = vae.encode(loadPixels(engine, images));
              await shard.append(
                'latents',
                latents,
                images.map(({ path, view }) => `${path} (${view})`),
              );
            });
            advance(views.length);
          }
        },
        dispose: () => vae.dispose(),
      };
    },
  };
}

function sizeKey(plan: LatentsPlan, record: number): string {
  return plan.views[record]?.view.split('+', 1)[0] ?? '';
}
