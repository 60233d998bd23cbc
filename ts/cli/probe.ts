import type { Command } from 'commander';
import type { Context } from './command.ts';
import { configureNoise } from './probe-noise.ts';
import { configureSample } from './probe-sample.ts';
import { configureText } from './probe-text.ts';
import { configureUnet } from './probe-unet.ts';
import { configureVae } from './probe-vae.ts';

/** `potstill probe …`: one component on tensors in a safetensors file, for bug reports and parity checks. */
export function configure(command: Command, context: Context): void {
  configureUnet(command.command('unet').summary("a UNet's prediction, loss and gradients"), context);
  configureText(command.command('text').summary('token ids and encoded prompts'), context);
  configureVae(command.command('vae').summary('a picture to latents, or latents to a picture'), context);
  configureNoise(command.command('noise').summary('noise of a seed'), context);
  configureSample(command.command('sample').summary('latents from given noise'), context);
}
