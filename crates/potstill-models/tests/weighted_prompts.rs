//! Long, weighted and embedding prompts against what the plain encoding gives for their parts.

mod common;
#[path = "common/prompts.rs"]
mod prompts;

use std::collections::HashMap;

use common::values;
use potstill_engine::Tensor;
use potstill_models::PromptEmbeddings;
use prompts::prompt_encoder;

fn states(encoded: &PromptEmbeddings) -> Tensor {
    encoded.encoder_hidden_states.tensor().clone()
}

fn assert_near(what: &str, found: &Tensor, wanted: &Tensor, tolerance: f32) {
    assert_eq!(found.dims(), wanted.dims(), "{what}");
    let worst = values(found)
        .iter()
        .zip(values(wanted))
        .fold(0f32, |most, (a, b)| most.max((a - b).abs()));
    println!("{what}: {worst:.1e}");
    assert!(worst <= tolerance, "{what}: {worst}");
}

#[test]
fn a_short_prompt_without_weights_is_encoded_as_ever() {
    for kind in ["sd15", "sdxl"] {
        let encoder = prompt_encoder(kind);
        for prompt in ["", "a photo of a dog", r"It's 3 dogs \(small\), and more"] {
            let plain = encoder.encode(&[prompt.replace('\\', "")], 1).unwrap();
            let weighted = encoder.encode_weighted(prompt, 1, None).unwrap();
            assert_eq!(weighted.token_ids, plain.token_ids);
            assert_eq!(weighted.token_ids_2, plain.token_ids_2);
            assert_near(prompt, &states(&weighted), &states(&plain), 0.);
            if let (Some(a), Some(b)) = (&weighted.pooled, &plain.pooled) {
                assert_near("pooled", a.tensor(), b.tensor(), 0.);
            }
        }
    }
}

#[test]
fn what_is_written_is_no_padding() {
    let encoder = prompt_encoder("sdxl");
    let [plain, weighted] =
        [encoder.encode(&["wow!"], 0), encoder.encode_weighted("wow!", 0, None)].map(Result::unwrap);
    assert_eq!(weighted.token_ids, plain.token_ids);
    let (first, second) = (weighted.token_ids, weighted.token_ids_2.unwrap());
    let end = first[0].iter().position(|id| *id == first[0][76]).unwrap();
    assert_eq!(first[0][..end], second[0][..end]);
    assert_ne!(plain.token_ids_2.unwrap(), second);
}

#[test]
fn a_weight_moves_a_token_from_the_empty_prompt() {
    for kind in ["sd15", "sdxl"] {
        let encoder = prompt_encoder(kind);
        let plain = states(&encoder.encode(&["a photo of a dog"], 0).unwrap());
        let empty = states(&encoder.encode(&[""], 0).unwrap());
        let photo = encoder.encode(&["a photo"], 0).unwrap().token_ids[0].clone();
        let [before, until] = ["a", "a photo"].map(|text| {
            let ids = &encoder.encode(&[text], 0).unwrap().token_ids[0];
            ids.iter().position(|id| *id == photo[76]).unwrap()
        });
        let weighted = states(&encoder.encode_weighted("a (photo:1.6) of a dog", 0, None).unwrap());
        for token in 0..77 {
            let at = |tensor: &Tensor| tensor.narrow(1, token, 1).unwrap();
            let weight = if (before..until).contains(&token) { 1.6 } else { 1. };
            let wanted = ((at(&plain) - at(&empty)).unwrap() * weight).unwrap() + at(&empty);
            assert_near(&format!("{kind} token {token}"), &at(&weighted), &wanted.unwrap(), 1e-5);
        }
        assert!(before < until);
    }
}

#[test]
fn a_long_prompt_goes_on_in_another_sequence() {
    for kind in ["sd15", "sdxl"] {
        let encoder = prompt_encoder(kind);
        // "a" is one token; 75 of them fill a sequence.
        assert_eq!(
            encoder.encode(&["a"], 0).unwrap().token_ids[0][2],
            encoder.encode(&[""], 0).unwrap().token_ids[0][1]
        );
        let words = |count: usize| vec!["a"; count].join(" ");
        let long = encoder
            .encode_weighted(&format!("{} photo of a dog", words(75)), 0, None)
            .unwrap();
        assert_eq!(long.token_ids.len(), 2);
        let first = encoder.encode(&[words(75)], 0).unwrap();
        let second = encoder.encode(&["photo of a dog"], 0).unwrap();
        let wanted = Tensor::cat(&[states(&first), states(&second)], 1).unwrap();
        assert_near(kind, &states(&long), &wanted, 1e-5);
        if let (Some(a), Some(b)) = (&long.pooled, &first.pooled) {
            assert_near("pooled", a.tensor(), b.tensor(), 1e-5);
        }
        // A short group is not broken: its bracket moves to the next sequence as a whole.
        let moved = encoder
            .encode_weighted(&format!("{} (photo of a dog:1.0)", words(74)), 0, None)
            .unwrap();
        assert_eq!(moved.token_ids[1][..3], second.token_ids[0][..3]);
    }
    assert!(
        prompt_encoder("sd15")
            .encode_weighted(&"a ".repeat(9000), 0, None)
            .is_err()
    );
}

#[test]
fn an_embedding_stands_for_its_vectors() {
    let folder = tempfile::tempdir().unwrap();
    for (kind, names) in [("sd15", vec!["emb_params"]), ("sdxl", vec!["clip_l", "clip_g"])] {
        let encoder = prompt_encoder(kind);
        // The vector of a word's own token: the word itself, under another name.
        let id = encoder.encode(&["a"], 0).unwrap().token_ids[0][1] as usize;
        let vectors: HashMap<String, Tensor> = encoder
            .encoders()
            .zip(&names)
            .map(|(encoder, name)| {
                let params = encoder.params().to_tensors(potstill_engine::DType::F32).unwrap();
                let table = &params["text_model.embeddings.token_embedding.weight"];
                (name.to_string(), table.narrow(0, id, 1).unwrap().contiguous().unwrap())
            })
            .collect();
        candle_core::safetensors::save(&vectors, folder.path().join(format!("{kind}.safetensors"))).unwrap();
        let named = encoder
            .encode_weighted(&format!("photo of embedding:{kind}, dog"), 0, Some(folder.path()))
            .unwrap();
        let written = encoder.encode_weighted("photo of a , dog", 0, None).unwrap();
        assert_near(kind, &states(&named), &states(&written), 1e-6);
    }
    let error = prompt_encoder("sdxl")
        .encode_weighted("embedding:sd15", 0, Some(folder.path()))
        .err()
        .unwrap();
    assert!(error.to_string().contains("sd15.safetensors"), "{error}");
    let error = prompt_encoder("sd15")
        .encode_weighted("embedding:sd15", 0, None)
        .err()
        .unwrap();
    assert!(error.to_string().contains("no folder"), "{error}");
}
