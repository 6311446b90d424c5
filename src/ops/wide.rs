//! Loops compiled twice, for every processor and for those with AVX-512.

/// Declares a function whose body is compiled a second time for AVX-512, and chosen when the processor has it.
///
/// The body must not depend on the width: the same source vectorises for both. Put the loop in the body, so that the choice is made
/// once per block or row and not once per number.
macro_rules! wide {
    ($(#[$meta:meta])* $visibility:vis fn $name:ident($($argument:ident: $type:ty),* $(,)?) $(-> $result:ty)? $body:block) => {
        $(#[$meta])*
        $visibility fn $name($($argument: $type),*) $(-> $result)? {
            #[inline(always)]
            fn plain($($argument: $type),*) $(-> $result)? $body

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq")]
            fn wide($($argument: $type),*) $(-> $result)? {
                plain($($argument),*)
            }

            #[cfg(target_arch = "x86_64")]
            if $crate::ops::wide::is_wide() {
                #[expect(unsafe_code, reason = "compiled for instructions that only some processors have")]
                // SAFETY: the processor has them, as was just asked.
                return unsafe { wide($($argument),*) };
            }
            plain($($argument),*)
        }
    };
}

pub(super) use wide;

/// Whether the processor has the parts of AVX-512 that [`wide!`] compiles for.
#[cfg(target_arch = "x86_64")]
pub(super) fn is_wide() -> bool {
    std::arch::is_x86_feature_detected!("avx512f")
        && std::arch::is_x86_feature_detected!("avx512vl")
        && std::arch::is_x86_feature_detected!("avx512bw")
        && std::arch::is_x86_feature_detected!("avx512dq")
}
