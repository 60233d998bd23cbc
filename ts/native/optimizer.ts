import type { Engine } from './engine.ts';
import { Handle } from './handle.ts';
import { unwrap } from './outcome.ts';
import { enqueueTensor, type Tensor } from './tensor.ts';
import type { Unet } from './unet.ts';

/** torch's defaults where left out. */
export interface AdamWOptions {
  /** Decays of the averages of the gradient and of its square: (0.9, 0.999). */
  readonly betas?: readonly [number, number] | undefined;
  /** Added to the root of the second average: 1e-8. */
  readonly eps?: number | undefined;
  /** Decoupled decay: weights shrink by lr·weightDecay a step; 0.01. */
  readonly weightDecay?: number | undefined;
}

/**
 * torch's AdamW over the parameters that a UNet trains when it is made. After an error in a tape, a step is not taken,
 * and the error surfaces at the next read.
 */
export class AdamW extends Handle {
  private constructor(engine: Engine, id: number) {
    super(engine, id, false);
  }

  static create(unet: Unet, options: AdamWOptions = {}): AdamW {
    const { betas = [0.9, 0.999], eps = 1e-8, weightDecay = 0.01 } = options;
    const { engine } = unet;
    const id = engine.allocate();
    engine.native.createAdamw(id, unet.id, { beta1: betas[0], beta2: betas[1], eps, weightDecay });
    return new AdamW(engine, id);
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

  /** Writes the state to a safetensors file: `exp_avg.NAME`, `exp_avg_sq.NAME`, `step.NAME`. */
  async save(file: string): Promise<void> {
    unwrap(await this.engine.native.saveOptimizer(this.id, file));
  }

  /** Takes over a state of the same parameters; a training then goes on to the bit. */
  async load(file: string): Promise<void> {
    unwrap(await this.engine.native.loadOptimizer(this.id, file));
  }
}
