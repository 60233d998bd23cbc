import { type Command, Option } from 'commander';
import type { DeviceName } from '../device.ts';
import { inputError } from '../errors.ts';
import type { PromptSyntax } from '../sampling/index.ts';
import type { Context } from './command.ts';
import { deviceOption, openEngine } from './device.ts';
import { modelFolder } from './model-folder.ts';
import { parseNatural } from './parse.ts';
import { requireFile, requireOutFile } from './paths.ts';
import { writeProbe } from './probe-output.ts';

interface TextOptions {
  readonly model: string;
  readonly prompts: string;
  readonly promptSyntax: PromptSyntax;
  readonly embeddings?: string;
  readonly clipSkip: number;
  readonly device: DeviceName;
  readonly out: string;
}

/** `potstill probe text` */
export function configureText(command: Command, context: Context): void {
  command
    .description(
      'Writes token_ids, encoder_hidden_states and, for SDXL, token_ids_2 and pooled of the prompts in a JSON file.',
    )
    .requiredOption('--model <path>', 'a single file or a diffusers folder')
    .requiredOption('--prompts <file>', 'JSON file: an array of strings')
    .addOption(
      new Option('--prompt-syntax <kind>', 'weighted: one prompt of any length, with (words:1.2) and embedding:name')
        .choices(['weighted', 'plain'])
        .default('plain'),
    )
    .option('--embeddings <folder>', 'where embedding:name is read from: NAME.safetensors')
    .option('--clip-skip <n>', 'layers of the text encoder to leave out', parseNatural, 0)
    .addOption(deviceOption())
    .requiredOption('--out <file>', 'safetensors file to write')
    .action(async (options: TextOptions) => {
      const { promptSyntax: syntax, embeddings, clipSkip } = options;
      if (syntax === 'plain' && embeddings !== undefined) {
        throw inputError('ERR_USAGE', '--embeddings are named in weighted prompts only', {
          where: '--embeddings',
          remedy: 'Add --prompt-syntax weighted.',
        });
      }
      const folder = await modelFolder(options.model, ['tokenizer', 'text_encoder']);
      await requireFile(options.prompts, '--prompts');
      await requireOutFile(options.out);
      const { probeText, readPrompts } = await import('../probe/text.ts');
      const prompts = await readPrompts(options.prompts);
      const encoded = await probeText(await openEngine(options, context), folder, prompts, {
        syntax,
        embeddings,
        clipSkip,
      });
      await writeProbe(options.out, encoded, context);
    });
}
