export {
  type Converted,
  type ConvertOptions,
  convertModel,
  type QuantizedComponent,
  type QuantizeRequest,
} from './convert.ts';
export * from './hub/index.ts';
export { type InspectOptions, inspectModel } from './inspect.ts';
export type { CheckpointReport, ComponentReport, UnusedKey } from './report.ts';
