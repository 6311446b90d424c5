//! Reading the operands of opcodes, and the errors that name a byte.

use super::super::error::{PickleError, Problem};
use super::super::value::{Compound, Node, Value};
use super::{Machine, STACK, Step};

impl<'a> Machine<'a> {
    // errors

    pub(super) fn error(&self, problem: Problem) -> PickleError {
        PickleError {
            offset: self.opcode_at,
            problem,
        }
    }

    pub(super) fn truncated(&self, missing: u64) -> PickleError {
        self.error(Problem::Truncated {
            length: self.input.len(),
            missing,
        })
    }

    pub(super) fn kind(
        &self,
        opcode: &'static str,
        expected: &'static str,
        value: Value<'a>,
    ) -> PickleError {
        let found = match value {
            Value::Node(Node(index)) => match self.nodes.get(index as usize) {
                Some(Compound::Tuple(_)) => "a tuple".to_owned(),
                Some(Compound::List(_)) => "a list".to_owned(),
                Some(Compound::Dict(_)) => "a dict".to_owned(),
                Some(Compound::Object { class, .. }) => format!("an object of {class}"),
                _ => "another object".to_owned(),
            },
            Value::Global(known) => known.to_string(),
            scalar => format!("{:.60}", format!("{scalar:?}")),
        };
        self.error(Problem::Kind {
            opcode,
            expected,
            found,
        })
    }

    pub(super) fn limit(&self, what: &'static str, value: usize) -> Step<()> {
        if value < STACK {
            return Ok(());
        }
        Err(self.error(Problem::Excess {
            what,
            value,
            length: self.input.len(),
        }))
    }

    // input

    pub(super) fn take(&mut self, length: u64) -> Step<&'a [u8]> {
        let rest = &self.input[self.at..];
        match usize::try_from(length).ok().and_then(|n| rest.get(..n)) {
            Some(bytes) => {
                self.at += bytes.len();
                Ok(bytes)
            }
            None => Err(self.truncated(length - rest.len() as u64)),
        }
    }

    pub(super) fn byte(&mut self) -> Step<u8> {
        match self.input.get(self.at) {
            Some(byte) => {
                self.at += 1;
                Ok(*byte)
            }
            None => Err(self.truncated(1)),
        }
    }

    pub(super) fn array<const N: usize>(&mut self) -> Step<[u8; N]> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N as u64)?);
        Ok(array)
    }

    pub(super) fn u32(&mut self) -> Step<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Step<u64> {
        self.array().map(u64::from_le_bytes)
    }

    pub(super) fn line(&mut self) -> Step<&'a str> {
        let rest = &self.input[self.at..];
        let Some(end) = memchr::memchr(b'\n', rest) else {
            return Err(self.truncated(1));
        };
        self.at += end + 1;
        match std::str::from_utf8(&rest[..end]) {
            Ok(line) => Ok(line),
            Err(_) => Err(self.error(Problem::Text)),
        }
    }

    pub(super) fn long(&mut self, length: u64) -> Step<()> {
        let bytes = self.take(length)?;
        if bytes.len() > 8 {
            return self.compound(Compound::Long(bytes));
        }
        let negative = bytes.last().is_some_and(|top| top & 0x80 != 0);
        let mut array = if negative { [0xff; 8] } else { [0; 8] };
        array[..bytes.len()].copy_from_slice(bytes);
        self.push(Value::Int(i64::from_le_bytes(array)))
    }

    pub(super) fn text(&mut self, length: u64) -> Step<()> {
        let bytes = self.take(length)?;
        match std::str::from_utf8(bytes) {
            Ok(text) => self.push(Value::Str(text)),
            Err(_) => Err(self.error(Problem::Text)),
        }
    }

    /// A text of Python 2, which had no encoding.
    pub(super) fn old_text(&mut self, length: u64) -> Step<()> {
        let bytes = self.take(length)?;
        self.push(std::str::from_utf8(bytes).map_or(Value::Bytes(bytes), Value::Str))
    }

    pub(super) fn bytes(&mut self, length: u64) -> Step<()> {
        let bytes = self.take(length)?;
        self.push(Value::Bytes(bytes))
    }
}
