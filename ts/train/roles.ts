import { match } from 'ts-pattern';
import type { Batch, Role, TextConditioning } from '../methods/define.ts';
import type { Point, Prediction } from '../methods/prediction.ts';
import type { Tape, Tensor, Unet } from '../native/index.ts';

/** A network that is trained: remembers the tapes of its predictions until the loss sends gradients back through them. */
export class TrainedRole implements Role {
  readonly #unet: Unet;
  readonly #recompute: boolean;
  #pending: { readonly output: Tensor; readonly tape: Tape }[] = [];

  /** @param recompute keep no activations and compute them again on the way back: less memory, the same gradients */
  constructor(unet: Unet, recompute: boolean) {
    this.#unet = unet;
    this.#recompute = recompute;
  }

  predict({ noisy, timesteps }: Point, text: TextConditioning): Prediction {
    const { output, tape } = this.#unet.forward({ sample: noisy, timesteps, ...text }, { recompute: this.#recompute });
    this.#pending.push({ output, tape });
    return { kind: this.#unet.predictionKind, schedule: this.#unet.schedule, tensor: output };
  }

  truth(batch: Batch): Prediction {
    return truthOf(this.#unet, batch);
  }

  /** Sends the gradients that a loss left at the predictions back into the weights. */
  backward(): void {
    for (const { output, tape } of this.#pending.reverse()) {
      const gradient = output.gradient();
      if (gradient !== undefined) tape.backward(gradient);
    }
    this.#pending = [];
  }
}

/** A network that is only asked. */
export class AskedRole implements Role {
  readonly #unet: Unet;

  constructor(unet: Unet) {
    this.#unet = unet;
  }

  predict({ noisy, timesteps }: Point, text: TextConditioning): Prediction {
    const { output } = this.#unet.forward({ sample: noisy, timesteps, ...text }, { track: false });
    return { kind: this.#unet.predictionKind, schedule: this.#unet.schedule, tensor: output };
  }

  truth(batch: Batch): Prediction {
    return truthOf(this.#unet, batch);
  }
}

/** What a network of this kind should predict for known latents and noise. */
function truthOf({ predictionKind: kind, schedule }: Unet, { latents, noise, timesteps }: Batch): Prediction {
  const tensor = match(kind)
    .with('epsilon', () => noise)
    .with('x0', () => latents)
    .with('v', () => schedule.velocity(latents, noise, timesteps))
    .with('flow', () => noise.sub(latents))
    .exhaustive();
  return { kind, schedule, tensor };
}
