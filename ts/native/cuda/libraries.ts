import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { LibraryFolder } from './folders.ts';

/** A library that the CUDA addon needs. */
export interface CudaLibrary {
  /** By which name it is looked for. */
  readonly file: string;
  /** The Python package that brings it, as pip takes it. */
  readonly wheel: string;
}

/** What the addon is linked to beside the driver, and NVRTC, which cuBLAS opens itself; those first that others need. */
export const CUDA_LIBRARIES: readonly CudaLibrary[] = [
  { file: 'libcudart.so.13', wheel: 'nvidia-cuda-runtime==13.*' },
  { file: 'libnvrtc.so.13', wheel: 'nvidia-cuda-nvrtc==13.*' },
  { file: 'libcublasLt.so.13', wheel: 'nvidia-cublas==13.*' },
  { file: 'libcublas.so.13', wheel: 'nvidia-cublas==13.*' },
  { file: 'libcurand.so.10', wheel: 'nvidia-curand==10.4.*' },
];

/** What was found of a library. */
export interface FoundLibrary {
  readonly file: string;
  /** Where it was loaded from: a path, or `the loader's places`. Nothing when it is missing. */
  readonly found?: string;
  /** Where that is from: `CUDA_PATH`, `toolkit cuda`, `python wheels`. */
  readonly source?: string;
  /** Why those that are there cannot be used. */
  readonly reasons?: readonly string[];
}

/**
 * Loads CUDA's libraries for good, so that an addon that is linked to them finds them wherever they lie.
 *
 * @param preload loads one by path, or by name in the loader's places; gives its words when it cannot
 */
export function loadLibraries(
  folders: readonly LibraryFolder[],
  preload: (file: string) => string | null | undefined,
): readonly FoundLibrary[] {
  return CUDA_LIBRARIES.map(({ file }) => {
    if (!preload(file)) return { file, found: "the loader's places" };
    const reasons: string[] = [];
    for (const { path, source } of folders) {
      const found = join(path, file);
      if (!existsSync(found)) continue;
      const reason = preload(found);
      if (!reason) return { file, found, source };
      reasons.push(`${found}: ${reason}`);
    }
    return { file, ...(reasons.length === 0 ? {} : { reasons }) };
  });
}

/** The command that brings what is missing of these. */
export function installCommand(missing: readonly FoundLibrary[]): string {
  const files = new Set(missing.map(({ file }) => file));
  const wheels = CUDA_LIBRARIES.filter(({ file }) => files.has(file)).map(({ wheel }) => `"${wheel}"`);
  return `pip install ${[...new Set(wheels)].join(' ')}`;
}
