export { loadRun, RUN_FILES } from './load-run.ts';
export { madeBy } from './made-by.ts';
export { renderReport } from './render.ts';
export type { RunReport, StepSamples, VerificationRow } from './run-report.ts';
export { writeReport } from './write-report.ts';
