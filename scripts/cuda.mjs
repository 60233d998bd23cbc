// Builds with CUDA on a machine without a card or a CUDA toolkit: brings nvcc as Python wheels and stubs of the libraries
// that are linked with, both below target/tools, and runs cargo with them in a target folder of its own.
//
//   node scripts/cuda.mjs                      the addon and the GPU suite, in target/cuda/x86_64-unknown-linux-gnu/release
//   node scripts/cuda.mjs -- CARGO WORDS...    any cargo command with other packages or features: compiles candle anew for them
//   node scripts/cuda.mjs --kernels [TEXT...]  our own kernels to machine code of every architecture, to see that they compile:
//                                              those alone whose names contain all the texts, e.g. `sm_90 attention`
import { pathToFileURL } from 'node:url';
import { compileKernels } from './lib/cuda-kernels.mjs';
import { cargoWithCuda, DEFAULT_WORDS, installToolkit } from './lib/cuda-toolkit.mjs';
import { checkRequirements } from './lib/requirements.mjs';
import { reportFailure } from './setup.mjs';

async function main(words) {
  checkRequirements();
  await installToolkit();
  if (words[0] === '--kernels') return compileKernels(words.slice(1));
  const own = words[0] === '--' ? words.slice(1) : words;
  return cargoWithCuda(own.length > 0 ? own : DEFAULT_WORDS);
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  process.exitCode = await main(process.argv.slice(2)).then((code) => code ?? 0, reportFailure);
}
