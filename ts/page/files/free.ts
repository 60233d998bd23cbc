const { port1, port2 } = new MessageChannel();
port2.close();

/**
 * Frees a buffer at once: a worker that computes without a pause collects late, and gigabytes pass through here. What is
 * sent to nobody is gone; `ArrayBuffer.transfer` would not do, for the browser keeps what it has read besides.
 */
export function freeAtOnce({ buffer }: Uint8Array): void {
  port1.postMessage(undefined, [buffer as ArrayBuffer]);
}
