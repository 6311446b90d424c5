//! The `trestle` binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    trestle::cli::main()
}
