//! An error at the edge: what to say, what to suggest, and the exit code that scripts see.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::process::ExitCode;

use color_eyre::eyre::{Report, eyre};

/// Exit codes by kind; 0 is success and 2 (usage) is clap's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// 1: anything that has no code of its own.
    Failure,
    /// 2: the arguments make no sense together.
    Usage,
    /// 3: the recipe is invalid.
    Recipe,
    /// 4: data or a checkpoint is missing or wrong.
    Data,
    /// 5: the device that was asked for is not there.
    Device,
}

impl Exit {
    /// The number that the process exits with.
    pub fn code(self) -> u8 {
        match self {
            Self::Failure => 1,
            Self::Usage => 2,
            Self::Recipe => 3,
            Self::Data => 4,
            Self::Device => 5,
        }
    }

    /// A failure with this code and a plain message.
    pub fn because(self, message: impl Into<String>) -> Failure {
        Failure::new(self, eyre!(message.into()))
    }
}

/// Why a subcommand ended without success.
#[derive(Debug)]
pub struct Failure {
    exit: Exit,
    /// `None` if everything was said already.
    error: Option<Report>,
    hint: Option<String>,
}

impl Failure {
    /// A failure with an error and its causes.
    pub fn new(exit: Exit, error: impl Into<Report>) -> Self {
        Self {
            exit,
            error: Some(error.into()),
            hint: None,
        }
    }

    /// A failure whose reasons are on the screen already.
    pub fn said(exit: Exit) -> Self {
        Self {
            exit,
            error: None,
            hint: None,
        }
    }

    /// Adds what the user can do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Prints `error:`, causes and hint to standard error, and gives the exit code. A reader of our output who went away early
    /// (`trestle keys | head`) is no error.
    pub fn report(self, color: bool) -> ExitCode {
        let Some(error) = &self.error else {
            return ExitCode::from(self.exit.code());
        };
        let broken_pipe = error.chain().any(|cause| {
            cause
                .downcast_ref::<io::Error>()
                .is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe)
        });
        if broken_pipe {
            return ExitCode::SUCCESS;
        }
        let (red, cyan, reset) = if color {
            ("\x1b[1;31m", "\x1b[1;36m", "\x1b[0m")
        } else {
            ("", "", "")
        };
        let mut text = format!("{red}error:{reset} {error}\n");
        let mut last = error.to_string();
        for cause in error.chain().skip(1) {
            let cause = cause.to_string();
            // Many errors repeat their cause in their own message.
            if !last.contains(&cause) {
                let _ = writeln!(text, "  caused by: {cause}");
            }
            last = cause;
        }
        if let Some(hint) = &self.hint {
            let _ = writeln!(text, "{cyan}hint:{reset} {hint}");
        }
        // Nobody is left to tell if standard error is closed.
        let _ = io::stderr().write_all(text.as_bytes());
        ExitCode::from(self.exit.code())
    }
}

impl<E: std::error::Error + Send + Sync + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::new(Exit::Failure, error)
    }
}

/// Gives the error of a result its exit code.
pub trait OrExit<T> {
    /// On error, a [`Failure`] with this code.
    fn or_exit(self, exit: Exit) -> Result<T, Failure>;
}

impl<T, E: Into<Report>> OrExit<T> for Result<T, E> {
    fn or_exit(self, exit: Exit) -> Result<T, Failure> {
        self.map_err(|error| Failure::new(exit, error))
    }
}
