import { join } from 'node:path';
import type { Engine } from '../native/index.ts';
import type { Progress } from '../progress.ts';
import type { Recipe } from '../recipe/index.ts';
import { Painter, type PictureSettings } from '../sampling/index.ts';
import { writeAtomic } from '../write-atomic.ts';
import { stepName } from './checkpoints.ts';
import type { TrainerParts } from './trainer.ts';

/** A recipe's `sampling`. */
type Sampling = NonNullable<Recipe['sampling']>;

/** What a run's pictures are drawn with. */
export interface RunSamplesOptions {
  readonly engine: Engine;
  /** Folder of the student's model: its schedule. */
  readonly model: string;
  /** The model whose text encoders the pictures are made with. */
  readonly encoders: string;
  /** The VAE that they are made with. */
  readonly vae: string;
  readonly sampling: Sampling;
  /** The run's `samples` folder. */
  readonly folder: string;
  readonly parts: Pick<TrainerParts, 'student' | 'ema'>;
  readonly progress: Progress;
  readonly signal: AbortSignal;
}

/** Draws a run's prompts with the student as it is: `samples/step-000100/prompt-00-seed-1.png`. */
export class RunSamples {
  readonly #options: RunSamplesOptions;
  readonly #pictures: readonly Picture[];

  private constructor(options: RunSamplesOptions, pictures: readonly Picture[]) {
    this.#options = options;
    this.#pictures = pictures;
  }

  /**
   * Looks whether the pictures can be drawn at all, so that a run does not fail at its first ones. The text encoders and
   * the VAE are let go again: between pictures their memory is the training's.
   *
   * @throws PotstillError when the model lacks a component or the size is none
   */
  static async open(options: RunSamplesOptions): Promise<RunSamples> {
    using painter = await openPainter(options);
    const side = painter.defaultSize;
    const [width, height] = options.sampling.size ?? [side, side];
    painter.noise(0n, { width, height }).dispose(); // refuses a size that has no latents
    return new RunSamples(options, picturesOf(options.sampling, { width, height }));
  }

  /** Draws all pictures, with the moving average of the weights where there is one. Ends early when aborted. */
  async draw(step: number): Promise<void> {
    const { sampling, folder, parts, progress, signal } = this.#options;
    const { student, ema } = parts;
    using painter = await openPainter(this.#options);
    using task = progress.start(`samples of step ${step}`, {
      total: this.#pictures.length * sampling.steps,
      unit: 'steps',
    });
    const networks = [{ unet: student.unet, weight: 1, prediction: student.prediction }];
    ema?.swap();
    try {
      for (const { name, settings } of this.#pictures) {
        const png = await painter.paint(networks, settings, { signal, onStep: () => task.advance() });
        await writeAtomic(join(folder, stepName(step), name), png);
      }
    } catch (thrown) {
      if (!signal.aborted) throw thrown;
    } finally {
      ema?.swap();
    }
  }
}

/** With the student's own text encoders where they are trained. */
function openPainter({ engine, model, encoders, vae, parts }: RunSamplesOptions): Promise<Painter> {
  return Painter.open(engine, model, { text: parts.student.text ?? encoders, vae });
}

interface Picture {
  readonly name: string;
  readonly settings: PictureSettings;
}

function picturesOf(sampling: Sampling, size: { readonly width: number; readonly height: number }): Picture[] {
  const { prompts, seeds, promptSyntax: syntax, ...rest } = sampling;
  const { negative, sampler, spacing, karras, eta, steps, guidance, guidanceRescale, unconditional, clipSkip } = rest;
  const common = {
    ...{ negative, syntax, sampler, spacing, karras, eta, steps, guidance, guidanceRescale },
    ...{ unconditional, clipSkip, ...size },
  };
  return prompts.flatMap((prompt, index) =>
    seeds.map((seed) => ({
      name: `prompt-${String(index).padStart(2, '0')}-seed-${seed}.png`,
      settings: { ...common, prompt, seed: BigInt(seed) },
    })),
  );
}
