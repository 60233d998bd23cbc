import type { ModelKind, Precision, SamplerKind } from '../native/index.ts';
import { packageVersion } from '../version.ts';
import { withText } from './png-text.ts';
import type { PictureSettings } from './settings.ts';

/** Keyword under which AUTOMATIC1111, ComfyUI's readers and others look for a picture's settings. */
export const PARAMETERS = 'parameters';

/** Keyword of the same as JSON, whole: {@link pictureRecipe}. */
export const RECIPE = 'potstill';

/** A network that took part in a picture. */
export interface PictureModel {
  /** Name of its folder or file. */
  readonly name: string;
  /** SHA-256 of its weights, in hex. */
  readonly sha256?: string | undefined;
}

/** What made a picture, its settings aside. */
export interface PictureModels {
  /** The family, which decides what other programs' `Clip skip` counts; SD1.5 by default. */
  readonly kind?: ModelKind | undefined;
  readonly model?: PictureModel | undefined;
  /** What the UNets' matrices were multiplied in; f32 by default. */
  readonly dtype?: Precision | undefined;
  /** That of the first steps. */
  readonly base?: PictureModel | undefined;
  /** In place of the model's own. */
  readonly vae?: PictureModel | undefined;
  /** On the model. */
  readonly adapters?: readonly (PictureModel & { readonly weight: number })[] | undefined;
}

/** Names that other programs know. */
const SAMPLER_NAMES: Readonly<Record<SamplerKind, string>> = {
  ddpm: 'DDPM',
  ddim: 'DDIM',
  euler: 'Euler',
  'euler-a': 'Euler a',
  'dpmpp-2m': 'DPM++ 2M',
  lcm: 'LCM',
  tcd: 'TCD',
  'flow-euler': 'Flow Euler',
};

/** A PNG with its settings: for other programs, and as JSON. */
export function withPictureText(png: Uint8Array, settings: PictureSettings, models: PictureModels = {}): Uint8Array {
  const recipe = JSON.stringify(pictureRecipe(settings, models));
  return withText(withText(png, RECIPE, recipe), PARAMETERS, describe(settings, models));
}

/**
 * A picture's settings in the form that other programs read: the prompt, a line `Negative prompt: …`, and a line of
 * `Name: value` pairs. A value with a comma, a colon or a line break is quoted as JSON. `Clip skip` is the layer as counted
 * there, the last one 1: what SD1.5 was trained with, while SDXL was trained with the one before it.
 */
export function describe(settings: PictureSettings, models: PictureModels = {}): string {
  const { kind = 'sd15', model, dtype, base, vae } = models;
  const adapters = models.adapters?.map(({ name, weight }) => `${name}:${weight}`).join(', ');
  const { prompt, negative = '', sampler, spacing, karras, eta, steps, guidance, guidanceRescale } = settings;
  const { seed, width, height, clipSkip = 0, unconditional, base: baseSteps } = settings;
  const pairs: readonly (readonly [name: string, value: string | number | bigint | undefined])[] = [
    ['Steps', steps],
    ['Sampler', SAMPLER_NAMES[sampler]],
    ['Schedule type', karras === true ? 'Karras' : undefined],
    ['Spacing', spacing],
    ['Eta', eta],
    ['CFG scale', guidance],
    ['CFG rescale', guidanceRescale === 0 ? undefined : guidanceRescale],
    ['Seed', seed],
    ['Size', `${width}x${height}`],
    ['Model hash', model?.sha256?.slice(0, SHORT_HASH)],
    ['Model', model?.name],
    ['Precision', dtype === 'f32' ? undefined : dtype],
    ['VAE', vae?.name],
    ['Adapters', adapters === '' ? undefined : adapters],
    ['Clip skip', clipSkip === 0 ? undefined : clipSkip + TRAINED_LAYER[kind]],
    ['Unconditional', unconditional === 'zeros' ? unconditional : undefined],
    ['Base', baseSteps && base?.name],
    ['Base steps', baseSteps?.steps],
    ['Base CFG scale', baseSteps?.guidance],
    ['RNG', 'philox'],
    ['Version', `potstill ${packageVersion()}`],
  ];
  const numbers = pairs.flatMap(([name, value]) => (value === undefined ? [] : [`${name}: ${quoted(String(value))}`]));
  return [prompt, ...(negative === '' ? [] : [`Negative prompt: ${negative}`]), numbers.join(', ')].join('\n');
}

/** The layer that a family was trained with, counted from the last one, which is 1. */
const TRAINED_LAYER: Readonly<Record<ModelKind, number>> = { sd15: 1, sdxl: 2 };

/** Digits of a model's hash that other programs show. */
const SHORT_HASH = 10;

function quoted(value: string): string {
  return /[,:\n"]/.test(value) ? JSON.stringify(value) : value;
}

/** Everything that decides a picture, as JSON. The seed is a string: JSON's numbers do not hold 64 bits. */
export function pictureRecipe(
  settings: PictureSettings,
  { model, dtype = 'f32', base, vae, adapters }: PictureModels = {},
): object {
  const { seed, base: baseSteps, ...rest } = settings;
  return {
    ...{ version: 1, potstill: packageVersion(), model, vae, ...rest },
    ...(dtype === 'f32' ? {} : { dtype }),
    ...(adapters === undefined || adapters.length === 0 ? {} : { adapters }),
    ...(baseSteps === undefined ? {} : { base: { ...baseSteps, model: base } }),
    ...{ seed: String(seed), noise: 'philox' },
  };
}
