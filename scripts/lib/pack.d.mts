/** See pack.mjs. */
export function packAll(): Promise<string[]>;
