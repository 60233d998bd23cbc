//! What candle lacks: fused operations with backward, gradients for what is trained only, optimizers.
