import type { Tensor } from '../native/index.ts';
import type { Prediction } from './prediction.ts';

/**
 * Classifier-free guidance: u + g·(c − u), row by row.
 *
 * @param g guidance of each row, [B, 1, 1, 1]; 1 is no guidance
 */
export function guide(cond: Prediction, uncond: Prediction, g: Tensor): Prediction {
  return { ...cond, tensor: uncond.tensor.add(cond.tensor.sub(uncond.tensor).mul(g)) };
}

/**
 * Guidance rescale of Lin et al. 2023: brings the guided prediction's deviation back to the conditional one's, by a share
 * of `rescale` (0 leaves it as it is). Deviations are taken per row over all other axes, as diffusers' `rescale_noise_cfg`.
 */
export function rescaleGuidance(guided: Prediction, cond: Prediction, rescale: number): Prediction {
  if (rescale === 0) return guided;
  const factor = deviation(cond.tensor).div(deviation(guided.tensor));
  return {
    ...guided,
    tensor: guided.tensor
      .mul(factor)
      .scale(rescale)
      .add(guided.tensor.scale(1 - rescale)),
  };
}

/** Standard deviation of each row, [B, 1, 1, 1]. Only its ratios are used, in which the divisor n − 1 or n cancels. */
function deviation(tensor: Tensor): Tensor {
  const axes = [1, 2, 3];
  return tensor.sub(tensor.mean(axes, true)).square().mean(axes, true).sqrt();
}
