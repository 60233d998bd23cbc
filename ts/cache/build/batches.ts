/** Images encoded together: a VAE's activations at 512² take 0.5 GB each, so few. */
export const IMAGES_PER_BATCH = 4;
/** Captions encoded together: enough to keep the matrix products large. */
export const CAPTIONS_PER_BATCH = 16;
/** Predictions of one forward. */
export const ROWS_PER_BATCH = 8;
