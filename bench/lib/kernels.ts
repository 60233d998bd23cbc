import type { Sides } from './compare.ts';
import type { Program } from './peer.ts';

/** Classes of processors that a comparison can be held to, and how each library that PyTorch computes with is told. */
const CLASSES = {
  sse: { ATEN_CPU_CAPABILITY: 'default', ONEDNN_MAX_CPU_ISA: 'SSE41', MKL_ENABLE_INSTRUCTIONS: 'SSE4_2' },
  avx2: { ATEN_CPU_CAPABILITY: 'avx2', ONEDNN_MAX_CPU_ISA: 'AVX2', MKL_ENABLE_INSTRUCTIONS: 'AVX2' },
} as const;

/** Both sides as on a processor that has no more than a class's instructions; as they are with `best`. */
export function heldTo(kernels: string, { ours, theirs }: Sides): Sides {
  if (kernels === 'best') return { ours, theirs };
  if (!(kernels in CLASSES)) throw new Error(`--kernels ${kernels}: one of best, ${Object.keys(CLASSES).join(', ')}`);
  const withVariables = (program: Program, environment: Program['environment']): Program => ({
    ...program,
    ...(environment === undefined ? {} : { environment }),
  });
  return {
    ours: withVariables(ours, { POTSTILL_KERNELS: kernels }),
    theirs: theirs && withVariables(theirs, CLASSES[kernels as keyof typeof CLASSES]),
  };
}
