//! A matrix in codes.

use super::{fp8, int8, nf4};

/// Codes for matrices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// Four bits, in blocks of 64 with a scale: bitsandbytes' NF4.
    Nf4,
    /// Eight bits with a scale for each row: bitsandbytes' LLM.int8.
    Int8,
    /// Floats of eight bits (e4m3fn) with a scale for the whole.
    Fp8,
}

impl Format {
    const ALL: [Self; 3] = [Self::Nf4, Self::Int8, Self::Fp8];

    /// `nf4`, `int8` or `fp8`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Nf4 => "nf4",
            Self::Int8 => "int8",
            Self::Fp8 => "fp8",
        }
    }

    /// The format of a name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.name() == name)
    }

    /// The scales that a matrix with rows of `columns` values has; of values beyond int8's range, infinity.
    pub fn scales(self, values: &[f32], columns: usize) -> Vec<f32> {
        match self {
            Self::Nf4 => nf4::scales(values),
            Self::Int8 => int8::scales(values, columns),
            Self::Fp8 => vec![fp8::scale(values)],
        }
    }
}

/// A matrix in codes.
#[derive(Debug, Clone, PartialEq)]
pub struct Packed {
    format: Format,
    codes: Vec<u8>,
    scales: Vec<f32>,
    count: usize,
    columns: usize,
}

impl Packed {
    /// Codes finite values of rows of `columns`; none when a value is beyond what the format has a code for, which only int8's
    /// half floats (65504) have an end for.
    pub fn of(values: &[f32], columns: usize, format: Format) -> Option<Self> {
        let scales = format.scales(values, columns);
        if !scales.iter().all(|scale| scale.is_finite()) {
            return None;
        }
        let codes = match format {
            Format::Nf4 => nf4::encode(values, &scales),
            Format::Int8 => int8::encode(values, columns, &scales)
                .iter()
                .map(|&code| code as u8)
                .collect(),
            Format::Fp8 => values.iter().map(|v| fp8::to_e4m3(v / scales[0])).collect(),
        };
        Some(Self {
            format,
            codes,
            scales,
            count: values.len(),
            columns,
        })
    }

    /// The codes, as files have them.
    pub fn codes(&self) -> &[u8] {
        &self.codes
    }

    /// Bytes of codes and scales.
    pub fn bytes(&self) -> usize {
        self.codes.len() + self.scales.len() * size_of::<f32>()
    }

    /// What the codes stand for.
    pub fn values(&self) -> Vec<f32> {
        let mut values = vec![0f32; self.count];
        match self.format {
            Format::Nf4 => nf4::decode(&self.codes, &nf4::VALUES, &self.scales, nf4::BLOCK, &mut values),
            Format::Int8 => int8::decode(&self.codes, self.columns, &self.scales, &mut values),
            Format::Fp8 => fp8::decode(&self.codes, fp8::from_e4m3, self.scales[0], &mut values),
        }
        values
    }
}
