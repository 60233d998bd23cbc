export { inspectMachine, type Machine, type MachineProblem } from './inspect.ts';
