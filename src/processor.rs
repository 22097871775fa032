//! Whether the processor can do what the binary was compiled for.
//!
//! A build for x86-64-v3 (`.cargo/config.toml`) would end on an older processor at some instruction, with a signal and
//! without a word. The standard library's detection takes the features of the build for given, so the processor itself is
//! asked, before anything else is done.

/// The features that this build needs and the processor, or the system, does not have.
#[cfg(all(target_arch = "x86_64", target_feature = "avx2"))]
pub(crate) fn missing_features() -> Vec<&'static str> {
    use std::arch::x86_64::__cpuid;
    let leaf = |leaf| if __cpuid(leaf & 0x8000_0000).eax >= leaf { Some(__cpuid(leaf)) } else { None };
    let (basic, more, extended) = (leaf(1), leaf(7), leaf(0x8000_0001));
    missing(basic.map_or(0, |l| l.ecx), more.map_or(0, |l| l.ebx), extended.map_or(0, |l| l.ecx))
}

#[cfg(not(all(target_arch = "x86_64", target_feature = "avx2")))]
pub(crate) fn missing_features() -> Vec<&'static str> {
    Vec::new()
}

/// Of x86-64-v3, by the words of CPUID in which the features have their bits (Intel's manual, volume 2A, CPUID).
#[cfg(all(target_arch = "x86_64", target_feature = "avx2"))]
fn missing(basic: u32, more: u32, extended: u32) -> Vec<&'static str> {
    let features = [
        ("FMA", basic, 12),
        ("MOVBE", basic, 22),
        // The system saves the wide registers.
        ("OSXSAVE", basic, 27),
        ("AVX", basic, 28),
        ("F16C", basic, 29),
        ("BMI1", more, 3),
        ("AVX2", more, 5),
        ("BMI2", more, 8),
        ("LZCNT", extended, 5),
    ];
    features.into_iter().filter(|(_, word, bit)| word & (1 << bit) == 0).map(|(name, ..)| name).collect()
}

#[cfg(all(test, target_arch = "x86_64", target_feature = "avx2"))]
mod tests {
    use super::*;

    #[test]
    fn each_feature_is_named_that_is_missing() {
        assert!(missing_features().is_empty());
        assert_eq!(missing(u32::MAX, u32::MAX, u32::MAX), Vec::<&str>::new());
        assert_eq!(missing(!(1 << 12), !(1 << 5), 0), ["FMA", "AVX2", "LZCNT"]);
    }
}
