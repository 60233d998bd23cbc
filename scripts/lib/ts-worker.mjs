// Runs a worker's TypeScript file, its first argument, from source: workers do not share the loaders of the main thread.
import { register } from 'tsx/esm/api';

register();
await import(process.argv[2]);
