//! What a checkpoint holds and how it fits: every key accounted for, from headers alone.

use std::collections::BTreeMap;

use serde_json::{Map, Value as Json};

use super::kinds::{Component, Dialect, Storage};
use super::part::Part;
use super::sort::UnusedKey;
use crate::error::{KeyMismatch, Result};
use crate::nn::Source;

/// One component of a checkpoint.
#[derive(Debug, Clone, PartialEq)]
pub struct ComponentReport {
    /// Which.
    pub component: Component,
    /// Whose names its tensors have.
    pub dialect: Dialect,
    /// Its configuration: stated, or implied by keys and shapes.
    pub config: Map<String, Json>,
    /// Parameter tensors found as the model asks for them.
    pub matched: usize,
    /// Of these, how many have another name, shape or place in the file than in diffusers' layout.
    pub converted: Conversions,
    /// Number of values in them.
    pub parameters: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Number of parameter tensors by dtype.
    pub dtypes: BTreeMap<&'static str, usize>,
    /// What of all this is quantized.
    pub quantized: Quantized,
    /// Keys that are known and not used.
    pub unused: Vec<UnusedKey>,
    /// What does not fit.
    pub mismatch: KeyMismatch,
}

/// Parameters that are not kept as diffusers does, by what is done to them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Conversions {
    /// Stored under another name.
    pub renamed: usize,
    /// Of these, matrices that are 1×1 convolutions.
    pub squeezed: usize,
    /// Of these, transposed matrices.
    pub transposed: usize,
    /// Of these, thirds of a larger tensor.
    pub split: usize,
}

/// Parameters that are kept in codes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Quantized {
    /// Number of tensors.
    pub tensors: usize,
    /// Number of values in them.
    pub parameters: u64,
    /// Bytes of their codes and scales.
    pub bytes: u64,
}

impl ComponentReport {
    /// Compares what a component asks for with what is there.
    pub(super) fn new(part: &Part) -> Result<Self> {
        let weights = &part.weights;
        let mut report = Self {
            component: part.component,
            dialect: part.dialect,
            config: part.json().clone(),
            matched: 0,
            converted: Conversions::default(),
            parameters: 0,
            bytes: 0,
            dtypes: BTreeMap::new(),
            quantized: Quantized::default(),
            unused: part.unused.clone(),
            mismatch: KeyMismatch::default(),
        };
        let wanted = part.config.shapes()?;
        for (name, shape) in &wanted {
            let Some((place, view)) = weights.locate(name) else {
                report.mismatch.missing.push(weights.label(name));
                continue;
            };
            let found = place.shape(view);
            if !weights.fits(place, view, shape) {
                let entry = (place.key.clone(), shape.clone(), found.to_vec());
                report.mismatch.misshapen.push(entry);
                continue;
            }
            if !place.dtype(view).is_float() {
                report.mismatch.wrong_dtype.push((place.key.clone(), view.dtype.name()));
                continue;
            }
            let count: usize = shape.iter().product();
            report.matched += 1;
            report.parameters += count as u64;
            let (dtype, bytes) = match &place.coding {
                None => (view.dtype.name(), (count * view.dtype.size()) as u64),
                Some(coding) => {
                    let bytes = match place.storage {
                        Storage::Third(_) => coding.bytes / 3,
                        _ => coding.bytes,
                    };
                    report.quantized.tensors += 1;
                    report.quantized.parameters += count as u64;
                    report.quantized.bytes += bytes;
                    (coding.name(), bytes)
                }
            };
            report.bytes += bytes;
            *report.dtypes.entry(dtype).or_default() += 1;
            let converted = &mut report.converted;
            converted.renamed += usize::from(place.key != *name);
            match place.storage {
                Storage::Third(_) => converted.split += 1,
                Storage::Transposed => converted.transposed += 1,
                Storage::Same | Storage::Squeezed => converted.squeezed += usize::from(found.len() != shape.len()),
            }
        }
        let wanted: std::collections::HashSet<&str> = wanted.iter().map(|(name, _)| name.as_str()).collect();
        report.mismatch.unexpected = weights
            .names()
            .filter(|name| !wanted.contains(name))
            .map(|name| weights.locate(name).map_or(name, |(place, _)| &place.key).to_string())
            .collect();
        Ok(report)
    }
}
