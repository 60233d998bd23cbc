//! Random weights: to start a training from nothing, to measure speed, and for parity fixtures that store no weights.

use std::collections::HashMap;

use potstill_noise::TorchGenerator;

use crate::error::Result;
use crate::layout::gather;
use crate::nn::{Found, Source};

/// How random weights are drawn. With both, the i-th parameter in the order of sorted names has a `torch` generator of
/// its own, seeded with `seed + i`, and draws in diffusers' layout, so that Python can make the same weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Initialisation {
    /// What torch's layers start with: weights and biases uniform in ±1/√fan_in, norms one and zero.
    Training,
    /// Every value random, none special: weights N(0, 1/fan_in), norm weights N(1, 0.01), all else N(0, 0.01).
    Normal,
}

/// A source of random parameters.
pub(crate) struct RandomSource {
    seed: u64,
    initialisation: Initialisation,
    /// Position among the sorted names, and fan-in (of the weight beside it, for a bias).
    parameters: HashMap<String, (u64, usize)>,
}

impl RandomSource {
    /// For a model of these names and diffusers' shapes.
    pub(crate) fn new(shapes: &[(String, Vec<usize>)], seed: u64, initialisation: Initialisation) -> Self {
        let by_name: HashMap<&str, &[usize]> = shapes.iter().map(|(n, s)| (n.as_str(), s.as_slice())).collect();
        let mut names: Vec<&str> = by_name.keys().copied().collect();
        names.sort_unstable();
        let fan_in = |name: &str| {
            let weight = name.strip_suffix("bias").map(|stem| format!("{stem}weight"));
            let shape = weight.and_then(|w| by_name.get(w.as_str())).unwrap_or(&by_name[name]);
            shape.iter().skip(1).product::<usize>().max(1)
        };
        let parameters = names
            .iter()
            .enumerate()
            .map(|(i, &n)| (n.to_string(), (i as u64, fan_in(n))))
            .collect();
        Self {
            seed,
            initialisation,
            parameters,
        }
    }

    fn values(&self, name: &str, shape: &[usize]) -> Vec<f32> {
        let (index, fan_in) = self.parameters[name];
        let mut generator = TorchGenerator::new(self.seed.wrapping_add(index));
        let mut values = vec![0f32; shape.iter().product()];
        let is_norm = shape.len() == 1 && name.contains("norm");
        let is_weight = name.ends_with("weight");
        match self.initialisation {
            Initialisation::Training if is_norm => values.fill(if is_weight { 1. } else { 0. }),
            Initialisation::Training => {
                generator.rand(&mut values);
                let bound = (1. / (fan_in as f64).sqrt()) as f32;
                values.iter_mut().for_each(|v| *v = (*v * 2. - 1.) * bound);
            }
            Initialisation::Normal => {
                generator.randn(&mut values);
                let (offset, scale) = match (shape.len(), is_norm && is_weight) {
                    (2.., _) => (0., (1. / (fan_in as f64).sqrt()) as f32),
                    (_, true) => (1., 0.1),
                    (_, false) => (0., 0.1),
                };
                values.iter_mut().for_each(|v| *v = *v * scale + offset);
            }
        }
        values
    }
}

impl Source for RandomSource {
    fn find(&mut self, name: &str, shape: &[usize]) -> Result<Found> {
        let values = self.values(name, shape);
        Ok(Found::Values(gather(shape, |k| values[k])))
    }

    fn place(&self) -> String {
        "random weights".to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shapes() -> Vec<(String, Vec<usize>)> {
        [
            ("b.weight", vec![64, 25]),
            ("b.bias", vec![64]),
            ("a.norm.weight", vec![32]),
            ("a.norm.bias", vec![32]),
        ]
        .map(|(n, s)| (n.to_string(), s))
        .to_vec()
    }

    #[test]
    fn seeds_follow_the_sorted_names() {
        let source = RandomSource::new(&shapes(), 100, Initialisation::Normal);
        // Sorted: a.norm.bias, a.norm.weight, b.bias, b.weight.
        let mut expected = vec![0f32; 32];
        TorchGenerator::new(101).randn(&mut expected);
        let values = source.values("a.norm.weight", &[32]);
        assert!(
            values
                .iter()
                .zip(&expected)
                .all(|(v, e)| (v - (1. + 0.1 * e)).abs() < 1e-6)
        );
        let mut expected = vec![0f32; 1600];
        TorchGenerator::new(103).randn(&mut expected);
        assert_eq!(source.values("b.weight", &[64, 25])[7], expected[7] * 0.2);
    }

    #[test]
    fn training_starts_as_torch_layers_do() {
        let source = RandomSource::new(&shapes(), 0, Initialisation::Training);
        assert_eq!(source.values("a.norm.weight", &[32]), [1.; 32]);
        assert_eq!(source.values("a.norm.bias", &[32]), [0.; 32]);
        // A bias is bounded by its weight's fan-in.
        let bias = source.values("b.bias", &[64]);
        assert!(bias.iter().all(|v| v.abs() <= 0.2) && bias.iter().any(|v| v.abs() > 0.15));
    }
}
