/** A line of the table of comparisons. */
export interface Row {
  /** Name of the result under `results/`. */
  readonly name: string;
  readonly what: string;
  /** Ratio that must not be exceeded, and ratio that is aimed at. */
  readonly gate: number;
  readonly goal: number;
  /** Whether the short table of the repository's README has it. */
  readonly short?: true;
  /** The benchmark's file and its options, `--python` apart. Where two rows come of one run, the first has it. */
  readonly run?: readonly string[];
}

const unet = (...options: string[]): string[] => ['unet.ts', ...options];

/**
 * Comparisons with PyTorch, in the table's order. Of what takes long, one iteration a turn: turns, which differ more than the
 * iterations of one, narrow the intervals.
 */
export const ROWS: readonly Row[] = [
  {
    name: 'unet-sd15-forward',
    what: 'SD1.5 UNet, prediction',
    gate: 1.3,
    goal: 0.95,
    short: true,
    run: unet('--arch', 'sd15', '--mode', 'forward', '--turns', '5'),
  },
  {
    name: 'unet-sd15-lora',
    what: 'SD1.5 UNet, LoRA step',
    gate: 1.3,
    goal: 0.9,
    short: true,
    run: unet('--arch', 'sd15', '--mode', 'lora', '--iterations', '1'),
  },
  {
    name: 'unet-sd15-full',
    what: 'SD1.5 UNet, step of all weights',
    gate: 1.3,
    goal: 0.95,
    short: true,
    run: unet('--arch', 'sd15', '--mode', 'full', '--iterations', '1'),
  },
  {
    name: 'unet-sd15-forward-bf16',
    what: 'SD1.5 UNet, prediction in bf16',
    gate: 1.3,
    goal: 1,
    short: true,
    run: unet('--arch', 'sd15', '--mode', 'forward', '--dtype', 'bf16', '--turns', '5'),
  },
  {
    name: 'unet-sd15-forward-avx2',
    what: 'SD1.5 UNet, prediction, both sides held to AVX2',
    gate: 1.3,
    goal: 0.95,
    run: unet('--arch', 'sd15', '--mode', 'forward', '--kernels', 'avx2', '--iterations', '1'),
  },
  {
    name: 'unet-sdxl-forward',
    what: 'SDXL UNet, prediction',
    gate: 1.3,
    goal: 0.95,
    short: true,
    run: unet('--arch', 'sdxl', '--mode', 'forward', '--iterations', '1'),
  },
  {
    name: 'unet-sdxl-lora',
    what: 'SDXL UNet, LoRA step',
    gate: 1.3,
    goal: 0.95,
    short: true,
    run: unet('--arch', 'sdxl', '--mode', 'lora', '--turns', '3', '--iterations', '1'),
  },
  {
    name: 'vae-decode',
    what: 'VAE, decoding',
    gate: 1.3,
    goal: 1,
    short: true,
    run: ['vae.ts', '--mode', 'decode', '--iterations', '1'],
  },
  {
    name: 'vae-encode',
    what: 'VAE, encoding',
    gate: 1.3,
    goal: 1,
    run: ['vae.ts', '--mode', 'encode', '--iterations', '1'],
  },
  {
    name: 'text-sd15',
    what: "SD1.5's text encoder, 2 prompts",
    gate: 1.3,
    goal: 1,
    run: ['text.ts', '--arch', 'sd15'],
  },
  {
    name: 'text-sdxl',
    what: "SDXL's text encoders, 2 prompts",
    gate: 1.3,
    goal: 1,
    short: true,
    run: ['text.ts', '--arch', 'sdxl'],
  },
  { name: 'noise-torch', what: "noise as torch's, 1 thread", gate: 1.3, goal: 1, run: ['noise.ts'] },
  { name: 'noise-philox', what: "noise as potstill's own, 1 thread", gate: 1.3, goal: 1 },
  {
    name: 'verify-files',
    what: 'cache verify, files of 317 KB, 2 threads',
    gate: 0.1,
    goal: 0.1,
    short: true,
    run: ['verify.ts', '--only', 'files'],
  },
  { name: 'verify-files-1', what: 'the same, 1 thread', gate: 0.1, goal: 0.1 },
  {
    name: 'verify-shards',
    what: 'cache verify, shards, 2 threads',
    gate: 0.25,
    goal: 0.1,
    run: ['verify.ts', '--only', 'shards'],
  },
];

/** What is not measured against PyTorch: the benchmark's files. */
export const LIMITS: readonly (readonly string[])[] = [
  ['startup.ts'],
  ['loop.ts'],
  ['wasm.ts'],
  ['cache-index.ts'],
  ['verify.ts', '--only', 'wasm'],
  ['verify.ts', '--only', 'disk'],
];
