// A package in place of the CUDA addon, for tests: the CPU's addon, told to open the CPU whatever device it is asked for.
const cpu = require(process.env.POTSTILL_TEST_ADDON);

class Engine extends cpu.Engine {
  constructor(threads, device) {
    super(threads, device.startsWith('cuda:') ? 'cpu' : device);
  }
}

module.exports = { ...cpu, Engine, hasCuda: () => true };
