export { type EvaluatedPrompt, type EvaluateOptions, evaluate } from './evaluate.ts';
export type { EvaluatedModel, Evaluation } from './evaluation.ts';
