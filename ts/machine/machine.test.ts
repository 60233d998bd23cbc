import { spawnSync } from 'node:child_process';
import { expect, test } from 'vitest';
import { MAIN } from '../../test/support/potstill.ts';
import { addon } from '../native/index.ts';
import { inspectCpu, parseCpuQuota, parseFeatures } from './cpu.ts';
import { inspectDisk, inspectMemory, parseAvailable } from './memory.ts';

test('features are read from x86 and ARM alike, whole words only', () => {
  expect(parseFeatures('processor: 0\nflags\t\t: fpu avx2 fma avx512fp16 sse4_2\n')).toEqual(['sse4_2', 'avx2', 'fma']);
  expect(parseFeatures('Features\t: fp asimd bf16')).toEqual(['asimd', 'bf16']);
  expect(parseFeatures('')).toEqual([]);
});

test("a container's processor quota is a number of processors", () => {
  expect(parseCpuQuota('150000 100000\n')).toBe(1.5);
  expect(parseCpuQuota('max 100000\n')).toBe(Number.POSITIVE_INFINITY);
  expect(parseCpuQuota('')).toBe(Number.POSITIVE_INFINITY);
});

test('available memory is the one that the page cache can give back', () => {
  expect(parseAvailable('MemFree: 10 kB\nMemAvailable:   2048 kB\n')).toBe(2 * 1024 * 1024);
  expect(parseAvailable('nothing')).toBeUndefined();
});

test('this machine is described', async () => {
  expect((await inspectCpu()).threads).toBeGreaterThan(0);
  const memory = await inspectMemory();
  expect(memory.available).toBeGreaterThan(0);
  expect(memory.available).toBeLessThanOrEqual(memory.total);
  expect((await inspectDisk('.')).available).toBeGreaterThan(0);
});

test('the kernels are those that commands compute with, be they named or the best', () => {
  const doctor = (name: string): { devices: { kernels: string }[]; error: { code: string } } => {
    const env = { ...process.env, POTSTILL_KERNELS: name };
    const { stdout } = spawnSync(process.execPath, [MAIN, 'doctor', '--json'], { encoding: 'utf8', env });
    return JSON.parse(stdout);
  };
  const classes = addon().kernelClasses();
  for (const name of classes) expect(doctor(name).devices[0]?.kernels).toBe(name);
  expect(classes).toContain(doctor('').devices[0]?.kernels);
  expect(doctor('abacus').error).toMatchObject({ code: 'ERR_KERNELS', where: 'POTSTILL_KERNELS' });
});
