import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    // Unit tests stand beside the code; test/ holds what needs the built package: see test/README.md.
    include: ['ts/**/*.test.ts', 'bench/**/*.test.ts', 'test/**/*.test.ts'],
    exclude: ['ts/native/wasm/**', 'ts/native/wasm-compute/**', 'node_modules/**'],
    // The arithmetic below the tests uses every core itself.
    maxWorkers: 2,
    testTimeout: 60_000,
    hookTimeout: 120_000,
  },
});
