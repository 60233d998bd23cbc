import type { Command } from 'commander';
import { configureNoise } from './bench-noise.ts';
import { configureStep } from './bench-step.ts';
import { configureText } from './bench-text.ts';
import { configureUnet } from './bench-unet.ts';
import { configureVae } from './bench-vae.ts';
import { configureVerify } from './bench-verify.ts';
import type { Context } from './command.ts';

/** `potstill bench …`: what this machine does. */
export function configure(command: Command, context: Context): void {
  configureUnet(command.command('unet').summary("a full-size UNet's prediction, or its gradients"), context);
  configureVae(command.command('vae').summary('a full-size VAE, decoding or encoding'), context);
  configureText(command.command('text').summary('full-size text encoders'), context);
  configureStep(
    command.command('step').summary("a training step of the demo's model, and the loop around it"),
    context,
  );
  configureVerify(command.command('verify').summary('the verification of a cache'), context);
  configureNoise(command.command('noise').summary('noise of both generators'), context);
}
