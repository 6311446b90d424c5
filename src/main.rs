//! The `trestle` binary.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: trestle::train::CountingAllocator = trestle::train::CountingAllocator;

fn main() -> ExitCode {
    // Errors of tensors would carry the frames of whoever asked for those of panics, in the middle of our sentences.
    if std::env::var_os("RUST_LIB_BACKTRACE").is_none() {
        #[expect(unsafe_code, reason = "setting an environment variable")]
        // SAFETY: no other thread has been started yet.
        unsafe {
            std::env::set_var("RUST_LIB_BACKTRACE", "0");
        }
    }
    trestle::cli::main()
}
