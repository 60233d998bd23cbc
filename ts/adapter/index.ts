export { type AdapterModule, type AdapterReport, inspectAdapter } from './inspect.ts';
export { isAdapter } from './is-adapter.ts';
export {
  type AdapterFormat,
  convertAdapter,
  DIALECTS,
  type Dialect,
  mergeAdapters,
  type ResizedLayer,
  resizeAdapter,
  scaleAdapter,
} from './write.ts';
