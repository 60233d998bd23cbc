export type { CacheGarbageFound } from '../native/generated/binding.js';
export type { ComponentOutcome } from './build/build-component.ts';
export { type Part, parsePart, partOfEnvironment } from './build/part.ts';
export { type BuildOptions, type BuiltCache, buildCache } from './build-cache.ts';
export { collectGarbage, type GarbageOptions } from './collect-garbage.ts';
export { ensureCache } from './ensure-cache.ts';
export { type ExportedCache, type ExportOptions, exportCache } from './export.ts';
export type { FilesSummary } from './files-summary.ts';
export { type CacheImportOptions, type ImportedCache, type ImportedTeacher, importCache } from './import.ts';
export {
  type BatchRequest,
  type CachedBatch,
  type CachedPredictions,
  type CachedSample,
  OpenedCache,
} from './opened-cache.ts';
export { requireFolder } from './place.ts';
export type { LatentsPlan, Plan, PredictionField, TeacherPlan, TextPlan } from './plan/types.ts';
export { type CachePlans, type PlannedTeacher, planCache } from './plan-cache.ts';
export { type CachedText, CacheReader } from './reader.ts';
export type { RecomputeOptions } from './recomputation.ts';
export type {
  Finding,
  Provenance,
  Recomputation,
  RecomputedComponent,
  Severity,
  VerificationReport,
  VerifiedComponent,
} from './report.ts';
export { encodersOf, vaeOf } from './request.ts';
export { type SealedComponent, sealCache } from './seal-cache.ts';
export { type CacheStatistics, cacheStatistics } from './statistics.ts';
export type { ComponentSummary } from './summary.ts';
export { type CacheSurvey, surveyCache } from './survey.ts';
export { type FilesImages, type Verification, type VerifyBackend, type VerifyOptions, verifyCache } from './verify.ts';
