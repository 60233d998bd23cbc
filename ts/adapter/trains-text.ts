import type { Recipe } from '../recipe/schema.ts';
import { makesTextLora, trainedAdapters } from '../recipe/student.ts';
import { changesText } from './changes-text.ts';

/**
 * Whether a run trains text encoders too: a new LoRA is to sit on them, or one that is gone on with does. Their text is then
 * computed in every step, in the place of the cache's.
 */
export async function trainsText({ model, train }: Recipe['student']): Promise<boolean> {
  if (makesTextLora(train)) return true;
  for (const { lora } of trainedAdapters(train)) {
    if (typeof lora === 'string' && (await changesText(lora, model))) return true;
  }
  return false;
}
