//! A module as the tensors of a dialect that keeps every part by name.

use crate::module::{Array, Kronecker, Module, Update};

/// (ending without its dot, shape, values)
pub(super) type Named = (&'static str, Vec<usize>, Vec<f32>);

/// Endings of up and down.
pub(super) struct LoraEndings {
    pub(super) up: &'static str,
    pub(super) down: &'static str,
    pub(super) magnitude: &'static str,
}

/// `up` as `[out, rank]`, of a convolution `[out, rank, 1, 1]`; `down` in the layer's number of dimensions.
pub(super) fn lora_tensors(module: &Module, endings: &LoraEndings) -> Vec<Named> {
    let mut tensors = Vec::new();
    let ones = |mut shape: Vec<usize>| {
        shape.resize(module.site.shape.len().max(shape.len()), 1);
        shape
    };
    let mut push = |ending, Array { shape, values }: &Array, pad: bool| {
        let shape = if pad { ones(shape.clone()) } else { shape.clone() };
        tensors.push((ending, shape, values.clone()));
    };
    if let Some(Update::Lora { up, down, mid }) = &module.update {
        push(endings.up, up, true);
        push(endings.down, down, true);
        if let Some(mid) = mid {
            push("lora_mid.weight", mid, false);
        }
    }
    if let Some(magnitude) = &module.magnitude {
        tensors.push((endings.magnitude, ones(vec![magnitude.len(), 1]), magnitude.clone()));
    }
    tensors
}

/// All parts with kohya's and LyCORIS' endings.
pub(super) fn all_tensors(module: &Module) -> Vec<Named> {
    let mut tensors = lora_tensors(
        module,
        &LoraEndings {
            up: "lora_up.weight",
            down: "lora_down.weight",
            magnitude: "dora_scale",
        },
    );
    let mut push = |ending, array: &Array| tensors.push((ending, array.shape.clone(), array.values.clone()));
    match &module.update {
        Some(Update::Loha { first, second }) => {
            push_side(first, ["", "hada_w1_a", "hada_w1_b", "hada_t1"], &mut push);
            push_side(second, ["", "hada_w2_a", "hada_w2_b", "hada_t2"], &mut push);
        }
        Some(Update::Lokr { first, second }) => {
            push_side(first, ["lokr_w1", "lokr_w1_a", "lokr_w1_b", ""], &mut push);
            push_side(second, ["lokr_w2", "lokr_w2_a", "lokr_w2_b", "lokr_t2"], &mut push);
        }
        Some(Update::Full(difference)) => {
            push(if module.site.shape.len() == 1 { "w_norm" } else { "diff" }, difference)
        }
        Some(Update::Lora { .. }) | None => {}
    }
    if let Some(bias) = &module.bias {
        let ending = if module.site.shape.len() == 1 {
            "b_norm"
        } else {
            "diff_b"
        };
        tensors.push((ending, vec![bias.len()], bias.clone()));
    }
    if module.rank().is_some() {
        tensors.push(("alpha", Vec::new(), vec![module.alpha as f32]));
    }
    tensors
}

fn push_side(
    side: &Kronecker,
    [whole, left, right, middle]: [&'static str; 4],
    push: &mut impl FnMut(&'static str, &Array),
) {
    match side {
        Kronecker::Whole(array) => push(whole, array),
        Kronecker::Factored { a, b } => {
            push(left, a);
            // Readers want a matrix, and put a convolution's taps back themselves.
            let rows = b.shape[0];
            let flat = Array {
                shape: vec![rows, b.values.len() / rows.max(1)],
                values: b.values.clone(),
            };
            push(right, &flat);
        }
        Kronecker::Tucker { core, a, b } => {
            push(left, a);
            push(right, b);
            push(middle, core);
        }
    }
}
