//! The endings of keys: which part of a module a tensor is.

/// A part of a module.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Slot {
    Up,
    Down,
    Mid,
    Alpha,
    Magnitude,
    Difference,
    Bias,
    Hada1A,
    Hada1B,
    Hada2A,
    Hada2B,
    Hada1Core,
    Hada2Core,
    Kron1,
    Kron1A,
    Kron1B,
    Kron2,
    Kron2A,
    Kron2B,
    Kron2Core,
}

/// Every ending; the first that fits counts, so that `_lora.up.weight` stands after what it is the end of.
const ENDINGS: [(&str, Slot); 37] = [
    (".lora_up.weight", Slot::Up),
    (".lora_down.weight", Slot::Down),
    (".lora_mid.weight", Slot::Mid),
    (".lora.up.weight", Slot::Up),
    (".lora.down.weight", Slot::Down),
    ("_lora.up.weight", Slot::Up),
    ("_lora.down.weight", Slot::Down),
    (".lora_linear_layer.up.weight", Slot::Up),
    (".lora_linear_layer.down.weight", Slot::Down),
    (".lora_B.weight", Slot::Up),
    (".lora_A.weight", Slot::Down),
    (".lora_B.default.weight", Slot::Up),
    (".lora_A.default.weight", Slot::Down),
    (".lora_B", Slot::Up),
    (".lora_A", Slot::Down),
    (".alpha", Slot::Alpha),
    (".dora_scale", Slot::Magnitude),
    (".lora_magnitude_vector.default.weight", Slot::Magnitude),
    (".lora_magnitude_vector.weight", Slot::Magnitude),
    (".lora_magnitude_vector", Slot::Magnitude),
    (".diff_b", Slot::Bias),
    (".diff", Slot::Difference),
    (".w_norm", Slot::Difference),
    (".b_norm", Slot::Bias),
    (".hada_w1_a", Slot::Hada1A),
    (".hada_w1_b", Slot::Hada1B),
    (".hada_w2_a", Slot::Hada2A),
    (".hada_w2_b", Slot::Hada2B),
    (".hada_t1", Slot::Hada1Core),
    (".hada_t2", Slot::Hada2Core),
    (".lokr_w1_a", Slot::Kron1A),
    (".lokr_w1_b", Slot::Kron1B),
    (".lokr_w2_a", Slot::Kron2A),
    (".lokr_w2_b", Slot::Kron2B),
    (".lokr_w1", Slot::Kron1),
    (".lokr_w2", Slot::Kron2),
    (".lokr_t2", Slot::Kron2Core),
];

/// Splits a key into the layer's name and the part; none when the ending is unknown.
pub(super) fn split(key: &str) -> Option<(&str, Slot)> {
    ENDINGS
        .iter()
        .find_map(|(ending, slot)| Some((key.strip_suffix(ending)?, *slot)))
}

/// Whether a factor's key ends as in peft's files.
pub(super) fn is_of_peft(key: &str) -> bool {
    key.contains(".lora_A") || key.contains(".lora_B")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endings_are_told_apart() {
        for (key, base, slot) in [
            ("a.to_q.lora.down.weight", "a.to_q", Slot::Down),
            ("a.processor.to_q_lora.up.weight", "a.processor.to_q", Slot::Up),
            ("a.diff_b", "a", Slot::Bias),
            ("a.lora_A.default.weight", "a", Slot::Down),
            ("a.lokr_w1_a", "a", Slot::Kron1A),
        ] {
            assert_eq!(split(key), Some((base, slot)));
        }
        assert_eq!(split("a.weight"), None);
    }
}
