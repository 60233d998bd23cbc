import { expect, test } from 'vitest';
import { cudaNumber, isDeviceName } from './device.ts';
import { loadEngine } from './native/load-engine.ts';

test.each(['auto', 'cpu', 'cuda', 'cuda:0', 'cuda:12'])('%s is a device', (name) => {
  expect(isDeviceName(name)).toBe(true);
});

test.each(['', 'gpu', 'CUDA', 'cuda:', 'cuda:-1', 'cuda:01', 'cuda:1.5', 'cuda:1000', 'cpu:0'])(
  '%j is none',
  async (name) => {
    expect(isDeviceName(name)).toBe(false);
    await expect(loadEngine({ device: name as 'cpu' })).rejects.toMatchObject({ code: 'ERR_DEVICE', kind: 'input' });
  },
);

test('cuda alone is the first', () => {
  expect(cudaNumber('cuda')).toBe(0);
  expect(cudaNumber('cuda:3')).toBe(3);
});
