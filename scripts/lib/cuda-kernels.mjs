import { spawnSync } from 'node:child_process';
import { mkdirSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { CUDA_TARGET, cudaEnvironment } from './cuda-toolkit.mjs';
import { ROOT } from './paths.mjs';

/** Ampere, Ada, Hopper and Blackwell: the code that drivers make of the PTX that is carried. */
const ARCHITECTURES = ['sm_80', 'sm_89', 'sm_90', 'sm_120'];

/**
 * Compiles kernels to machine code, and prints how long it took and what spills.
 *
 * @param {readonly string[]} only those whose architecture and file (`sm_90 attention.cu`) contain all of these
 */
export function compileKernels(only) {
  const folder = join(ROOT, 'crates', 'potstill-engine', 'kernels');
  const out = join(CUDA_TARGET, 'kernels');
  mkdirSync(out, { recursive: true });
  let failed = 0;
  const files = readdirSync(folder).filter((name) => name.endsWith('.cu'));
  for (const architecture of ARCHITECTURES) {
    for (const file of files.filter((name) => only.every((text) => `${architecture} ${name}`.includes(text)))) {
      const began = performance.now();
      const cubin = join(out, `${file}.${architecture}.cubin`);
      const words = ['-std=c++17', '-O3', '-cubin', '-arch', architecture, '-Xptxas', '-v', '-o', cubin];
      const { status, stderr } = spawnSync('nvcc', [...words, join(folder, file)], {
        env: cudaEnvironment(),
        encoding: 'utf8',
      });
      const seconds = ((performance.now() - began) / 1000).toFixed(1);
      const spills = [...stderr.matchAll(/(\d+) bytes spill stores/g)].filter(([, bytes]) => bytes !== '0').length;
      if (status === 0) {
        process.stdout.write(
          `${architecture} ${file}: ${seconds} s, ${statSync(cubin).size} bytes, ${spills} kernels spill\n`,
        );
      } else {
        failed += 1;
        process.stdout.write(`${architecture} ${file}: failed\n${stderr}\n`);
      }
    }
  }
  return failed === 0 ? 0 : 1;
}
