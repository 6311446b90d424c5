//! Why a pickle was refused.

use thiserror::Error;

/// A pickle that is damaged, or that asks for more than data.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("pickle, byte {offset}: {problem}")]
pub struct PickleError {
    /// Byte of the opcode that could not be carried out.
    pub offset: usize,
    /// What is wrong with it.
    pub problem: Problem,
}

/// What is wrong at a byte of a pickle.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Problem {
    /// The input ends inside an opcode, or before STOP.
    #[error("the input ends here, after {length} bytes; {missing} more are needed at least")]
    Truncated {
        /// Length of the input.
        length: usize,
        /// Bytes that the opcode lacks.
        missing: u64,
    },
    /// Not a pickle, or one of a protocol that torch does not write.
    #[error("no pickle of protocol 2 to 5 ({found})")]
    Protocol {
        /// What stands there.
        found: String,
    },
    /// A class or function that is not known to be data.
    #[error("the global {name} is not on the list of known ones; nothing was executed")]
    Global {
        /// Module and name, with a dot between.
        name: String,
    },
    /// An opcode that is not needed for data, or none.
    #[error("opcode 0x{opcode:02x} is not one that a checkpoint needs")]
    Opcode {
        /// The byte.
        opcode: u8,
    },
    /// An opcode that takes more from the stack than there is.
    #[error("{opcode} finds too few values on the stack")]
    Underflow {
        /// Its name.
        opcode: &'static str,
    },
    /// An opcode that finds another kind of value than it works on.
    #[error("{opcode} needs {expected}, but finds {found}")]
    Kind {
        /// Its name.
        opcode: &'static str,
        /// What it works on.
        expected: &'static str,
        /// What is there.
        found: String,
    },
    /// A memo entry that was never stored.
    #[error("memo entry {index} was never stored; there are {entries}")]
    Memo {
        /// The entry.
        index: usize,
        /// Entries so far.
        entries: usize,
    },
    /// A memo index that no honest pickle of this length reaches, or a stack as deep.
    #[error("{what} {value} is beyond what a pickle of {length} bytes can need")]
    Excess {
        /// Memo index or stack depth.
        what: &'static str,
        /// Its value.
        value: usize,
        /// Length of the input.
        length: usize,
    },
    /// A text that is no UTF-8.
    #[error("a text is not valid UTF-8")]
    Text,
}
