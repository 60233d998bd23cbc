/** See pack.mjs. */
export function packAll(options?: { readonly addons?: string }): Promise<string[]>;
