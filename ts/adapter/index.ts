export { changesText } from './changes-text.ts';
export { type AdapterModule, type AdapterReport, inspectAdapter } from './inspect.ts';
export { isAdapter } from './is-adapter.ts';
export { trainsText } from './trains-text.ts';
export {
  type AdapterFormat,
  backMergeAdapters,
  convertAdapter,
  DIALECTS,
  type Dialect,
  type ExtractedAdapter,
  extractAdapter,
  mergeAdapters,
  type ResizedLayer,
  resizeAdapter,
  scaleAdapter,
} from './write.ts';
