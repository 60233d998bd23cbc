export { DEFAULT_PROMPTS, type DemoOptions, type DemoResult, runDemo } from './run-demo.ts';
