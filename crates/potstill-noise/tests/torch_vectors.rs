//! Vectors drawn by torch itself (`torch_vectors.tsv`), to the bit.

use potstill_noise::TorchGenerator;
use sha2::{Digest, Sha256};

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

fn f32_bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

fn f64_bytes(values: &[f64]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

fn i64_bytes(values: impl IntoIterator<Item = i64>) -> Vec<u8> {
    values.into_iter().flat_map(i64::to_le_bytes).collect()
}

#[test]
fn every_vector_to_the_bit() {
    let mut checked = 0;
    for line in include_str!("torch_vectors.tsv")
        .lines()
        .filter(|l| !l.starts_with('#'))
    {
        let fields: Vec<&str> = line.split('\t').collect();
        let [op, seed, count, dtype, digest, _first] = fields[..] else {
            panic!("{line}")
        };
        let mut generator = TorchGenerator::new(seed.parse().unwrap());
        let n: usize = count.parse().unwrap();
        let bytes = match (op, dtype) {
            ("randn", "float32") => {
                let mut out = vec![0.0; n];
                generator.randn(&mut out);
                f32_bytes(&out)
            }
            ("randn", "float64") if cfg!(not(all(target_os = "linux", target_env = "gnu"))) => continue,
            ("randn", "float64") => {
                let mut out = vec![0.0; n];
                generator.randn_f64(&mut out);
                f64_bytes(&out)
            }
            ("rand", "float32") => {
                let mut out = vec![0.0; n];
                generator.rand(&mut out);
                f32_bytes(&out)
            }
            ("rand", "float64") => {
                let mut out = vec![0.0; n];
                generator.rand_f64(&mut out);
                f64_bytes(&out)
            }
            ("randn(1,16,1)", _) => {
                let mut out = vec![0.0; 18];
                generator.randn(&mut out[..1]);
                generator.randn(&mut out[1..17]);
                generator.randn(&mut out[17..]);
                f32_bytes(&out)
            }
            ("randint(0,1000)", _) | ("randint(0,2**31)", _) => {
                let mut out = vec![0; n];
                generator
                    .randint(0, if op.contains("**") { 1 << 31 } else { 1000 }, &mut out)
                    .unwrap();
                i64_bytes(out)
            }
            ("randperm(10)", _) => i64_bytes(generator.randperm(10).into_iter().map(i64::from)),
            _ => panic!("no case for {line}"),
        };
        assert_eq!(hex(&bytes), digest, "{op} seed {seed} of {n} {dtype}");
        checked += 1;
    }
    assert!(checked >= 40, "{checked}");
}
