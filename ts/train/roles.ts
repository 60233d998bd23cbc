import type { Batch, Role, TextConditioning } from '../methods/define.ts';
import { type Point, type Prediction, truth } from '../methods/prediction.ts';
import { gradients, type PredictionKind, type Schedule, type Tape, type Tensor, type Unet } from '../native/index.ts';

/** A UNet with what its predictions mean. */
export interface Network {
  readonly unet: Unet;
  readonly prediction: PredictionKind;
  readonly schedule: Schedule;
}

/** A network that is trained: remembers the tapes of its predictions until the loss sends gradients back through them. */
export class TrainedRole implements Role {
  readonly #network: Network;
  readonly #recompute: boolean;
  #pending: { readonly output: Tensor; readonly tape: Tape }[] = [];

  /** @param recompute keep no activations and compute them again on the way back: less memory, the same gradients */
  constructor(network: Network, recompute: boolean) {
    this.#network = network;
    this.#recompute = recompute;
  }

  predict({ noisy, timesteps }: Point, text: TextConditioning): Prediction {
    const options = { grad: true, recompute: this.#recompute } as const;
    const { unet, prediction: kind, schedule } = this.#network;
    const { outputs, tape } = unet.forward({ sample: noisy, timesteps, ...text }, options);
    this.#pending.push({ output: outputs.prediction, tape });
    return { kind, schedule, tensor: outputs.prediction };
  }

  truth(batch: Batch): Prediction {
    return truth(this.#network.prediction, this.#network.schedule, batch);
  }

  /** Sends a loss's gradients back through the predictions since the last call, into the gradients of the weights. */
  backward(loss: Tensor): void {
    const pending = this.#pending;
    this.#pending = [];
    const found = gradients(
      loss,
      pending.map(({ output }) => output),
    );
    for (const [index, { tape }] of pending.entries()) {
      const prediction = found[index];
      if (prediction !== undefined) tape.backward({ prediction });
    }
  }
}

/** A network that is only asked. */
export class AskedRole implements Role {
  readonly #network: Network;

  constructor(network: Network) {
    this.#network = network;
  }

  predict({ noisy, timesteps }: Point, text: TextConditioning): Prediction {
    const { unet, prediction: kind, schedule } = this.#network;
    const { outputs } = unet.forward({ sample: noisy, timesteps, ...text });
    return { kind, schedule, tensor: outputs.prediction };
  }

  truth(batch: Batch): Prediction {
    return truth(this.#network.prediction, this.#network.schedule, batch);
  }
}
