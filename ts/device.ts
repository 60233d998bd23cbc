/** What a user may ask for: `cuda` is the first of NVIDIA's devices, `auto` that one where it works, else the CPU. */
export type DeviceName = 'auto' | 'cpu' | 'cuda' | `cuda:${number}`;

/** Where arithmetic runs. Numbers are those of NVIDIA's driver, which `CUDA_VISIBLE_DEVICES` changes. */
export type Device = 'cpu' | `cuda:${number}`;

/** The names that {@link isDeviceName} takes, as a regular expression for schemas. */
export const DEVICE_NAME = /^(?:auto|cpu|cuda(?::(?:0|[1-9]\d{0,2}))?)$/;

export function isDeviceName(text: string): text is DeviceName {
  return DEVICE_NAME.test(text);
}

/** The number of a CUDA device; `cuda` alone is the first. */
export function cudaNumber(name: 'cuda' | `cuda:${number}`): number {
  return name === 'cuda' ? 0 : Number(name.slice('cuda:'.length));
}
