import type { Engine } from '../../native/engine.ts';
import type { ModelKind } from '../../native/model.ts';
import { scope } from '../../native/scope.ts';
import { Vae } from '../../native/vae.ts';
import type { DataScan } from '../data/scan.ts';
import { loadPixels } from '../images.ts';
import type { LatentsPlan } from '../plan/types.ts';
import { IMAGES_PER_BATCH } from './batches.ts';
import type { ComponentBuild } from './build-component.ts';
import { runsOf } from './runs.ts';

/** The VAE that latents are made with. */
export interface VaeSource {
  /** `MODEL/vae`, a VAE's own folder, or a file that holds one. */
  readonly path: string;
  /** Of the model that it is for. */
  readonly kind: ModelKind;
}

/** How latents are made: every view's picture through a VAE. */
export function latentsBuild(
  engine: Engine,
  plan: LatentsPlan,
  scan: DataScan,
  { path, kind }: VaeSource,
): ComponentBuild {
  return {
    plan,
    label: 'latents',
    unit: 'images',
    open: async () => {
      const vae = await Vae.open(engine, path, kind);
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
