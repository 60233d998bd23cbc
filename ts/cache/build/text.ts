import type { Engine } from '../../native/engine.ts';
import { scope } from '../../native/scope.ts';
import { TextEncoder } from '../../native/text-encoder.ts';
import type { TextPlan } from '../plan/types.ts';
import { CAPTIONS_PER_BATCH } from './batches.ts';
import type { ComponentBuild } from './build-component.ts';
import { runsOf } from './runs.ts';

/** How text is made: every caption through the text encoders of `model`. */
export function textBuild(engine: Engine, plan: TextPlan, model: string): ComponentBuild {
  return {
    plan,
    label: 'text',
    unit: 'captions',
    open: async () => {
      const encoder = await TextEncoder.open(engine, model);
      return {
        produce: async (from, to, shard, advance) => {
          for (const run of runsOf({ from, to }, CAPTIONS_PER_BATCH, () => '')) {
            const captions = plan.captions.slice(run.from, run.to);
            const labels = captions.map((caption) => `caption ${JSON.stringify(caption)}`);
            await scope(async () => {
              const { encoderHiddenStates, pooled } = await encoder.encode(captions);
              await shard.append('encoder_hidden_states', encoderHiddenStates, labels);
              if (pooled !== undefined) await shard.append('pooled', pooled, labels);
            });
            advance(captions.length);
          }
        },
        dispose: () => encoder.dispose(),
      };
    },
  };
}
