import type { Command } from 'commander';
import { configureNoise } from './bench-noise.ts';
import { configureUnet } from './bench-unet.ts';
import type { Context } from './command.ts';

/** `potstill bench …`: what this machine does. */
export function configure(command: Command, context: Context): void {
  configureUnet(command.command('unet').summary("a full-size UNet's prediction, or its gradients"), context);
  configureNoise(command.command('noise').summary('noise of both generators'), context);
}
