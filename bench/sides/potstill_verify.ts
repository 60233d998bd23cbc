/**
 * potstill's verification of a cache, by the addon or by the WASM module:
 * `potstill_verify.ts native|wasm CACHE [IMAGES [cold]]`; cold: from the disk, not from memory.
 */
import { FolderSource } from '../../ts/cache/folder-source.ts';
import { type VerificationReport, verifyCache } from '../../ts/cache/index.ts';
import { verifySource } from '../../ts/cache/wasm-module.ts';
import { loadWasm } from '../../ts/native/load-wasm.ts';
import type { WasmLoader } from '../../ts/native/wasm-modules.ts';
import { dropPageCache } from '../lib/drop-page-cache.ts';
import { serve } from '../lib/serve.ts';

const [backend, cache = '', images, temperature] = process.argv.slice(2);

/** The addon, on the threads that `RAYON_NUM_THREADS` allows it. */
async function natively(): Promise<string> {
  const given = images === undefined ? {} : { images: { folder: images } };
  return (await verifyCache(cache, { backend: 'native', ...given })).json;
}

/** The WASM module on this thread, without the worker that the command line starts for it. */
async function inWasm(): Promise<string> {
  using source = new FolderSource(cache);
  return await verifySource(loadOnce, source, cache, undefined, () => {});
}

const modules = new Map<string, Promise<unknown>>();
/** A module is compiled once: that is no part of what an iteration times. */
const loadOnce: WasmLoader = <Exports>(name: Parameters<WasmLoader>[0]) => {
  const loaded = modules.get(name) ?? loadWasm(name);
  modules.set(name, loaded);
  return loaded as Promise<Exports>;
};

/** What both sides say of a cache: whether it is sound, and the statistics of its predictions. */
function outcomeOf(report: VerificationReport): object {
  const rows = report.statistics.map(({ component, bands }) => [
    component,
    bands.map(({ count, rms, correlation, calibration }) => [count, rms, correlation, calibration]),
  ]);
  return {
    verdict: report.verdict,
    entries: report.components.reduce((sum, { records }) => sum + records, 0),
    bands: Object.fromEntries(rows),
  };
}

const verify = backend === 'wasm' ? inWasm : natively;
const json = await verify();
const report = JSON.parse(json) as VerificationReport;
const bytes = report.components.reduce((sum, component) => sum + component.bytes, 0);
const noise = report.provenance?.map((provenance) => provenance.noise);
await serve({ backend, bytes, noise, outcome: outcomeOf(report), json }, async () => {
  if (temperature === 'cold') dropPageCache();
  const start = performance.now();
  await verify();
  return (performance.now() - start) / 1000;
});
