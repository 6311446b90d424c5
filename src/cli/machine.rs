//! What the program needs of the processor before it starts.

use thiserror::Error;

/// The processor lacks instructions that the program was built with.
#[derive(Debug, Error)]
#[error("this build of trestle needs a processor with {}", .0.join(" and "))]
pub(super) struct MissingInstructions(Vec<&'static str>);

/// Checks for AVX2, FMA and F16C by asking the processor itself: `is_x86_feature_detected!` answers at compile time
/// what the build was told to assume.
#[cfg(target_arch = "x86_64")]
pub(super) fn check_cpu() -> Result<(), MissingInstructions> {
    use std::arch::x86_64::{__cpuid, __cpuid_count};
    let highest = __cpuid(0).eax;
    let basic = __cpuid(1).ecx;
    let extended = if highest >= 7 {
        __cpuid_count(7, 0).ebx
    } else {
        0
    };
    let os_saves_ymm = basic & (1 << 27) != 0;
    let needed = [
        ("AVX2", extended & (1 << 5) != 0 && os_saves_ymm),
        ("FMA", basic & (1 << 12) != 0),
        ("F16C", basic & (1 << 29) != 0),
    ];
    let missing: Vec<_> = needed
        .iter()
        .filter(|(_, present)| !present)
        .map(|(name, _)| *name)
        .collect();
    if missing.is_empty() {
        Ok(())
    } else {
        Err(MissingInstructions(missing))
    }
}

/// Other architectures are built for their baseline.
#[cfg(not(target_arch = "x86_64"))]
pub(super) fn check_cpu() -> Result<(), MissingInstructions> {
    Ok(())
}
