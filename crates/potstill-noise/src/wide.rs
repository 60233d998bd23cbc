//! Whether the CPU has registers of 512 bits, with all that the loops of this crate become where it has.

/// As torch's and the BLAKE3 crate's kernels do, this asks for F, BW, DQ and VL together: every CPU since 2017 has all or none.
pub(crate) fn has_avx512() -> bool {
    std::arch::is_x86_feature_detected!("avx512f")
        && std::arch::is_x86_feature_detected!("avx512bw")
        && std::arch::is_x86_feature_detected!("avx512dq")
        && std::arch::is_x86_feature_detected!("avx512vl")
}
