import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import type { EvaluatedPrompt } from '../evaluate/index.ts';

const line = z.strictObject({ file: z.string(), caption: z.string() });

/**
 * Captions of picture folders, evenly spread over each folder.
 *
 * @param count how many in all
 */
export async function captionsOf(
  folders: readonly string[],
  heldOut: boolean,
  count: number,
): Promise<EvaluatedPrompt[]> {
  const prompts: EvaluatedPrompt[] = [];
  for (const [index, folder] of folders.entries()) {
    const share = Math.floor(((index + 1) * count) / folders.length) - Math.floor((index * count) / folders.length);
    const captions = (await readFile(join(folder, 'captions.jsonl'), 'utf8'))
      .split('\n')
      .filter((text) => text !== '')
      .map((text) => line.parse(JSON.parse(text)).caption);
    for (let taken = 0; taken < Math.min(share, captions.length); taken++) {
      const text = captions[Math.floor(((taken + 0.5) * captions.length) / share)];
      if (text !== undefined) prompts.push({ text, heldOut });
    }
  }
  return prompts;
}
