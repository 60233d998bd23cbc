// A package in place of the CUDA addon, for tests: the CPU's addon, told to open the CPU whatever device it is asked for.
const cpu = require(process.env.POTSTILL_TEST_ADDON);

const place = (device) => (device?.startsWith('cuda:') ? 'cpu' : device);

class Engine extends cpu.Engine {
  constructor(threads, device) {
    super(threads, place(device));
  }
}

const verifyCache = (cache, progress, cancel, images, recomputation, device) =>
  cpu.verifyCache(cache, progress, cancel, images, recomputation, place(device));

module.exports = { ...cpu, Engine, verifyCache, hasCuda: () => true };
