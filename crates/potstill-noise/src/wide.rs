//! Whether the CPU has registers of 512 bits, with all that the loops of this crate become where it has.

/// F alone lacks products of 64-bit integers (DQ), and the shorter forms of the instructions for what is left over (VL).
pub(crate) fn has_avx512() -> bool {
    std::arch::is_x86_feature_detected!("avx512f")
        && std::arch::is_x86_feature_detected!("avx512bw")
        && std::arch::is_x86_feature_detected!("avx512dq")
        && std::arch::is_x86_feature_detected!("avx512vl")
}
