//! potstill's own normals must never change: their digests are kept in `philox_vectors.tsv`.

use potstill_noise::{PhiloxNormals, Stream};
use sha2::{Digest, Sha256};

#[test]
fn every_vector_to_the_bit() {
    let mut checked = 0;
    for line in include_str!("philox_vectors.tsv")
        .lines()
        .filter(|line| !line.starts_with('#'))
    {
        let fields: Vec<&str> = line.split('\t').collect();
        let [seed, stream, count, digest, first] = fields[..] else {
            panic!("{line}")
        };
        let stream = [Stream::Noise, Stream::Timestep, Stream::VaeSample][stream.parse::<usize>().unwrap()];
        let mut out = vec![0f32; count.parse().unwrap()];
        PhiloxNormals::new(seed.parse().unwrap(), stream).fill(&mut out);
        let start: Vec<String> = out.iter().take(4).map(|v| format!("{:08x}", v.to_bits())).collect();
        assert_eq!(start.join(","), first, "{line}");
        let bytes: Vec<u8> = out.iter().flat_map(|v| v.to_le_bytes()).collect();
        let got: String = Sha256::digest(&bytes).iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(got, digest, "{line}");
        checked += 1;
    }
    assert_eq!(checked, 12);
}
