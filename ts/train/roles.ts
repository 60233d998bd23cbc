import type { Batch, Role, TextConditioning } from '../methods/define.ts';
import { type Point, type Prediction, truth } from '../methods/prediction.ts';
import {
  gradients,
  type Lora,
  type PredictionKind,
  type Schedule,
  type Tape,
  type Tensor,
  type TextEncoder,
  type TextOutputs,
  type Unet,
} from '../native/index.ts';

/** A UNet with what its predictions mean. */
export interface Network {
  readonly unet: Unet;
  readonly prediction: PredictionKind;
  readonly schedule: Schedule;
  /** Text encoders of its own, where they are trained too: they encode captions as they are, in the place of cached text. */
  readonly text?: TextEncoder | undefined;
}

/** A prediction and the ways back from it. */
interface Pending {
  readonly output: Tensor;
  readonly tape: Tape<'prediction', keyof TextOutputs>;
  readonly text?: { readonly outputs: TextOutputs; readonly tape: Tape<keyof TextOutputs, never> } | undefined;
}

/** A network that is trained: remembers the tapes of its predictions until the loss sends gradients back through them. */
export class TrainedRole implements Role {
  readonly #network: Network;
  readonly #recompute: boolean;
  #pending: Pending[] = [];

  /** @param recompute keep no activations and compute them again on the way back: less memory, the same gradients */
  constructor(network: Network, recompute: boolean) {
    this.#network = network;
    this.#recompute = recompute;
  }

  predict({ noisy, timesteps }: Point, cached: TextConditioning): Prediction {
    const { unet, prediction: kind, schedule, text: encoder } = this.#network;
    const text = encoder?.forward(promptsOf(cached), { trainedBeside: unet });
    const { outputs, tape } = unet.forward(
      { sample: noisy, timesteps, ...cached, ...text?.outputs },
      { grad: true, recompute: this.#recompute, inputGradients: namesOf(text?.outputs) },
    );
    this.#pending.push({ output: outputs.prediction, tape, text });
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
    for (const [index, { tape, text }] of pending.entries()) {
      const prediction = found[index];
      if (prediction === undefined) continue;
      const byText = tape.backward({ prediction });
      text?.tape.backward(byText);
    }
  }
}

/** The names of what text encoders give. */
function namesOf(outputs: TextOutputs | undefined): readonly (keyof TextOutputs)[] {
  return Object.keys(outputs ?? {}) as (keyof TextOutputs)[];
}

function promptsOf({ prompts }: TextConditioning): readonly string[] {
  if (prompts === undefined) throw new RangeError('the batch lacks its captions, which trained text encoders read');
  return prompts;
}

/** A network that is only asked, as it is. */
export class AskedRole implements Role {
  readonly #network: Network;
  readonly #loras: readonly Lora[];

  /** @param without adapters on the network that it is asked without: the network as it was before them */
  constructor(network: Network, without: readonly Lora[] = []) {
    this.#network = network;
    this.#loras = without;
  }

  predict({ noisy, timesteps }: Point, cached: TextConditioning): Prediction {
    const { unet, prediction: kind, schedule, text: encoder } = this.#network;
    const text = encoder?.forward(promptsOf(cached)).outputs;
    const ask = this.#loras.reduce(
      (inner: () => Tensor, lora) => () => lora.without(inner),
      () => unet.forward({ sample: noisy, timesteps, ...cached, ...text }).outputs.prediction,
    );
    return { kind, schedule, tensor: ask() };
  }

  truth(batch: Batch): Prediction {
    return truth(this.#network.prediction, this.#network.schedule, batch);
  }
}
