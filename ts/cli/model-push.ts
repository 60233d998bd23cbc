import type { Command } from 'commander';
import type { Context } from './command.ts';

interface PushOptions {
  readonly private?: boolean;
  readonly message?: string;
}

/** `potstill model push PATH OWNER/NAME` */
export function configurePush(command: Command, context: Context): void {
  command
    .argument('<path>', "a model's folder or single file")
    .argument('<repository>', 'OWNER/NAME, or OWNER/NAME@BRANCH')
    .description('Uploads a model in one commit; makes the repository when there is none. Needs HF_TOKEN.')
    .option('--private', 'when the repository is made')
    .option('--message <text>', "the commit's title")
    .action(async (path: string, name: string, { private: hidden, message }: PushOptions) => {
      const { hubSettings, parseRepository, pushModel } = await import('../model/hub/index.ts');
      const { progress, signal } = context;
      const options = { private: hidden, message, progress, signal };
      const pushed = await pushModel(path, parseRepository(name), await hubSettings(), options);
      context.result(pushed, () => [pushed.url, ...pushed.files].join('\n'));
    });
}
