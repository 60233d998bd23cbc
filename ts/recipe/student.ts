import type { Recipe } from './schema.ts';

/** What of a student is trained. */
export type Train = Recipe['student']['train'];

/** A LoRA that is made for a run. */
export type NewLora = Exclude<Extract<Train, { lora: unknown }>['lora'], string>;

/** A LoRA that is trained. */
export interface TrainedAdapter {
  /** Its name among several; none where it is the only one. */
  readonly name: string | undefined;
  /** The file of one to go on with, or how a new one is made. */
  readonly lora: string | NewLora;
}

/** The LoRAs that are trained on a student, in the order of their names; none where its own weights are. */
export function trainedAdapters(train: Train): readonly TrainedAdapter[] {
  if (train === 'unet') return [];
  if ('lora' in train) return [{ name: undefined, lora: train.lora }];
  return Object.keys(train.loras)
    .sort()
    .map((name) => ({ name, lora: train.loras[name] ?? '' }));
}

/** What a recipe's new LoRAs have on the text encoders. */
function textParts(train: Train): readonly NonNullable<NewLora['text']>[] {
  return trainedAdapters(train).flatMap(({ lora }) => (typeof lora === 'string' ? [] : (lora.text ?? [])));
}

/** Whether a new LoRA is to sit on text encoders too. */
export function makesTextLora(train: Train): boolean {
  return textParts(train).length > 0;
}

/** The factor on the learning rate of text encoders; none where they are not trained, or as fast as the UNet. */
export function textRate(train: Train): number | undefined {
  const [first] = textParts(train);
  return first === undefined || first.rate === 1 ? undefined : first.rate;
}

/** The same with other paths in the place of files. */
export function withLoraFiles(train: Train, replace: (file: string, name: string | undefined) => string): Train {
  if (train === 'unet') return train;
  const replaced = (lora: string | NewLora, name: string | undefined): string | NewLora =>
    typeof lora === 'string' ? replace(lora, name) : lora;
  if ('lora' in train) return { lora: replaced(train.lora, undefined) };
  const entries = Object.entries(train.loras).map(([name, lora]) => [name, replaced(lora, name)]);
  return { loras: Object.fromEntries(entries) as typeof train.loras };
}
