import { type Command, Option } from 'commander';
import type { Context } from './command.ts';
import { formatBytes } from './format.ts';

interface PullOptions {
  readonly file?: string;
  readonly variant?: string;
}

/** `potstill model pull OWNER/NAME[@REVISION]` */
export function configurePull(command: Command, context: Context): void {
  command
    .argument('<repository>', 'OWNER/NAME, or OWNER/NAME@REVISION')
    .description(
      'Downloads a model into the Hugging Face cache of this machine, checks every digest, and prints what --model takes.\n' +
        'Goes on where an earlier pull stopped. Reads HF_TOKEN, HF_HOME, HF_HUB_CACHE and HF_ENDPOINT.',
    )
    .option('--file <path>', "one of the repository's checkpoints")
    .addOption(new Option('--variant <name>', 'the smaller weights where there are such').choices(['fp16', 'bf16']))
    .action(async (name: string, { file, variant }: PullOptions) => {
      const { hubSettings, parseRepository, pullModel } = await import('../model/hub/index.ts');
      const { progress, signal } = context;
      const pulled = await pullModel(parseRepository(name), await hubSettings(), { file, variant, progress, signal });
      context.result(pulled, () => {
        const fresh = pulled.files.filter(({ downloaded }) => downloaded);
        const bytes = fresh.reduce((sum, each) => sum + each.bytes, 0);
        return [
          pulled.model,
          `${pulled.files.length} files of commit ${pulled.commit.slice(0, 12)}; ${formatBytes(bytes)} downloaded`,
        ].join('\n');
      });
    });
}
