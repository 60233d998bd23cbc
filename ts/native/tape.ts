import type { Engine } from './engine.ts';
import { Handle } from './handle.ts';
import { Tensor } from './tensor.ts';

/** What a module's outputs or inputs are named. */
type Names = readonly string[];

/**
 * The way back through one run of a module. Running it adds to the gradients of what the module trains, and gives the
 * gradients of the inputs that were asked for; it can be run once.
 */
export class Tape<Outputs extends string = string, Inputs extends string = string> extends Handle {
  readonly #outputs: Names;
  readonly #inputs: readonly { readonly name: string; readonly tensor: Tensor }[];

  /** For the modules of `ts/native`. */
  constructor(engine: Engine, id: number, outputs: Names, inputs: readonly { name: string; tensor: Tensor }[]) {
    super(engine, id, true);
    this.#outputs = outputs;
    this.#inputs = inputs;
  }

  /** @param gradOutputs gradient of the loss by each output, of its shape: see {@link gradients} */
  backward(gradOutputs: Readonly<Record<Outputs, Tensor>>): Record<Inputs, Tensor> {
    const given = this.#outputs.map((name) => gradOutputs[name as Outputs].id);
    const outs = this.#inputs.map(() => this.engine.allocate());
    this.engine.native.tapeBackward(outs, this.id, given);
    this.dispose();
    const gradients = this.#inputs.map(({ name, tensor }, index) => [
      name,
      new Tensor(this.engine, outs[index] ?? 0, tensor.shape),
    ]);
    return Object.fromEntries(gradients) as Record<Inputs, Tensor>;
  }
}
