import type { Engine } from './engine.ts';
import { Handle } from './handle.ts';
import { unwrap } from './outcome.ts';
import type { Unet } from './unet.ts';

/** As diffusers' `EMAModel`: the decay rises as (1 + s)/(10 + s). */
export interface EmaOptions {
  /** Largest decay: 0.9999. */
  readonly decay?: number | undefined;
  /** Smallest decay once it has started: 0. */
  readonly minDecay?: number | undefined;
  /** Updates before the average starts; until then it copies the weights: 0. */
  readonly updateAfter?: number | undefined;
}

/** A moving average of the parameters that a UNet trains when it is made. */
export class Ema extends Handle {
  private constructor(engine: Engine, id: number) {
    super(engine, id, false);
  }

  static create(unet: Unet, options: EmaOptions = {}): Ema {
    const { decay = 0.9999, minDecay = 0, updateAfter = 0 } = options;
    const { engine } = unet;
    const id = engine.allocate();
    engine.native.createEma(id, unet.id, { decay, minDecay, updateAfter });
    return new Ema(engine, id);
  }

  /** Moves the average towards the weights: after every step of the optimizer. */
  update(): void {
    this.engine.native.emaUpdate(this.id);
  }

  /** Exchanges average and weights: once to look at the average, once more to go on training. */
  swap(): void {
    this.engine.native.emaSwap(this.id);
  }

  /** Writes the averages by their parameters' names, and the count of updates. */
  async save(file: string): Promise<void> {
    unwrap(await this.engine.native.saveEma(this.id, file));
  }

  /** Takes over what {@link Ema.save} wrote. */
  async load(file: string): Promise<void> {
    unwrap(await this.engine.native.loadEma(this.id, file));
  }
}
