//! The `trestle` binary.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: trestle::train::CountingAllocator = trestle::train::CountingAllocator;

fn main() -> ExitCode {
    trestle::cli::main()
}
