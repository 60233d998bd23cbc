import type { Command } from 'commander';
import type { Context } from './command.ts';
import { modelFolder } from './model-folder.ts';
import { requireFile, requireOutFile } from './paths.ts';
import { writeProbe } from './probe-output.ts';

interface TextOptions {
  readonly model: string;
  readonly prompts: string;
  readonly out: string;
}

/** `potstill probe text` */
export function configureText(command: Command, context: Context): void {
  command
    .description(
      'Writes token_ids, encoder_hidden_states and, for SDXL, token_ids_2 and pooled of the prompts in a JSON file.',
    )
    .requiredOption('--model <folder>', "a diffusers model's folder")
    .requiredOption('--prompts <file>', 'JSON file: an array of strings')
    .requiredOption('--out <file>', 'safetensors file to write')
    .action(async (options: TextOptions) => {
      const folder = await modelFolder(options.model, ['tokenizer', 'text_encoder']);
      await requireFile(options.prompts, '--prompts');
      await requireOutFile(options.out);
      const { loadEngine } = await import('../native/index.ts');
      const { probeText, readPrompts } = await import('../probe/text.ts');
      const prompts = await readPrompts(options.prompts);
      await writeProbe(options.out, await probeText(await loadEngine(), folder, prompts), context);
    });
}
