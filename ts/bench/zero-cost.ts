import { type Engine, type Optimizer, type Tape, Tensor, type Unet, type UnetInputs } from '../native/index.ts';
import type { TrainerParts } from '../train/trainer.ts';

/**
 * The same training with a network that predicts its own input, and an optimizer that does nothing: what is left is what
 * the loop itself costs. (Casts, because the classes are closed: a trainer uses no more of them than is here.)
 */
export function withoutModel(parts: TrainerParts): TrainerParts {
  const { engine } = parts.student.unet;
  return {
    ...parts,
    student: { ...parts.student, unet: echo() },
    optimizers: { ...parts.optimizers, student: idle(engine) },
    ema: undefined,
  };
}

function echo(): Unet {
  const tape = { backward: () => ({}) } as unknown as Tape<'prediction', never>;
  const forward = ({ sample }: UnetInputs) => ({ outputs: { prediction: sample.leaf() }, tape });
  return { forward } as unknown as Unet;
}

function idle(engine: Engine): Optimizer {
  const optimizer: Pick<Optimizer, 'clip' | 'step' | 'zeroGrad'> = {
    clip: () => Tensor.scalar(engine, 0),
    step: () => {},
    zeroGrad: () => {},
  };
  return optimizer as unknown as Optimizer;
}
