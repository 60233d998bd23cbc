import { match } from 'ts-pattern';
import type { Engine } from './engine.ts';
import { Handle } from './handle.ts';
import { unwrap } from './outcome.ts';
import { enqueueTensor, type Tensor } from './tensor.ts';
import type { Unet } from './unet.ts';

/** A factor on the learning rate of the layers that a preset or pattern chooses. */
export interface LayerRate {
  readonly layers: string;
  readonly factor: number;
}

type Betas = readonly [number, number];

/** An optimizer, told apart by its `id`. */
export type OptimizerOptions =
  | {
      readonly id: 'adamw';
      readonly betas: Betas;
      readonly eps: number;
      readonly weightDecay: number;
      readonly rates?: readonly LayerRate[];
    }
  | {
      readonly id: 'lion';
      readonly betas: Betas;
      readonly weightDecay: number;
      readonly rates?: readonly LayerRate[];
    }
  | {
      readonly id: 'prodigy';
      readonly betas: Betas;
      readonly eps: number;
      readonly weightDecay: number;
      readonly d0: number;
      readonly dCoef: number;
      /** null for none. */
      readonly growthRate: number | null;
      readonly biasCorrection: boolean;
      readonly safeguardWarmup: boolean;
      readonly rates?: readonly LayerRate[];
    }
  | {
      readonly id: 'adafactor';
      /** Added to squared gradients, and the least size that a parameter counts as. */
      readonly eps: Betas;
      readonly clipThreshold: number;
      readonly decayRate: number;
      readonly weightDecay: number;
      readonly scaleParameter: boolean;
      readonly relativeStep: boolean;
      readonly rates?: readonly LayerRate[];
    };

/**
 * An optimizer of the parameters that a UNet trains now, those of LoRAs on it among them. What its rates cannot be
 * surfaces at the next read.
 */
export function createOptimizer(unet: Unet, options: OptimizerOptions): Optimizer {
  const { engine } = unet;
  const { native } = engine;
  const id = engine.allocate();
  const { rates = [] } = options;
  match(options)
    .with({ id: 'adamw' }, ({ betas: [beta1, beta2], eps, weightDecay }) =>
      native.createAdamw(id, unet.id, { beta1, beta2, eps, weightDecay }),
    )
    .with({ id: 'lion' }, ({ betas: [beta1, beta2], weightDecay }) =>
      native.createLion(id, unet.id, { beta1, beta2, weightDecay }),
    )
    .with({ id: 'prodigy' }, ({ id: _, rates: _rates, betas: [beta1, beta2], growthRate, ...others }) =>
      native.createProdigy(id, unet.id, {
        ...{ beta1, beta2, growthRate: growthRate ?? Number.POSITIVE_INFINITY },
        ...others,
      }),
    )
    .with({ id: 'adafactor' }, ({ id: _, rates: _rates, eps: [eps, leastSize], ...others }) =>
      native.createAdafactor(id, unet.id, { eps, leastSize, ...others }),
    )
    .exhaustive();
  if (rates.length > 0) {
    native.setOptimizerRates(
      id,
      rates.map((rate) => ({ ...rate })),
    );
  }
  return new Optimizer(engine, id);
}

/**
 * Changes the parameters that a UNet trained when it was made. After an error in a tape, a step is not taken, and the
 * error surfaces at the next read.
 */
export class Optimizer extends Handle {
  /** For {@link createOptimizer}. */
  constructor(engine: Engine, id: number) {
    super(engine, id, false);
  }

  /**
   * The norm of all gathered gradients together, a scalar; when it is above `max`, they are scaled down to it
   * (torch's `clip_grad_norm_`). Infinity clips nothing.
   */
  clip(max: number): Tensor {
    return enqueueTensor(this.engine, [], (id) => this.engine.native.clipGradients(id, this.id, max));
  }

  /** Updates the weights by the gathered gradients. */
  step(lr: number): void {
    this.engine.native.optimizerStep(this.id, lr);
  }

  /** Forgets the gathered gradients. */
  zeroGrad(): void {
    this.engine.native.zeroGradients(this.id);
  }

  /** Writes the state to a safetensors file, under the names that the references give its parts: `exp_avg.NAME`. */
  async save(file: string): Promise<void> {
    unwrap(await this.engine.native.saveOptimizer(this.id, file));
  }

  /** Takes over a state of the same parameters; a training then goes on to the bit. */
  async load(file: string): Promise<void> {
    unwrap(await this.engine.native.loadOptimizer(this.id, file));
  }
}
