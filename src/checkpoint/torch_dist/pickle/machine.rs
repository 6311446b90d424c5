//! The stack machine: opcodes in, values out.
//!
//! One loop without recursion. Lists and dicts grow by what lies on the stack, the stack grows by an element an opcode, so memory is linear
//! in the input; the memo must be dense, as every pickler writes it.

mod input;
mod stack;

use super::error::{PickleError, Problem};
use super::value::{Compound, Pickle, Value};

/// Values on the stack at once. Picklers flush lists and dicts every thousand elements.
const STACK: usize = 1 << 22;

/// Reads the pickle at the start of `input`.
///
/// # Errors
/// [`PickleError`] with the byte: truncated input, an opcode of an old protocol or none, a global that is not [known](super::known), an opcode
/// that finds the wrong values, a memo index or stack depth that no honest pickle needs.
pub fn parse(input: &[u8]) -> Result<Pickle<'_>, PickleError> {
    let mut machine = Machine {
        input,
        at: 0,
        opcode_at: 0,
        stack: Vec::new(),
        marks: Vec::new(),
        memo: Vec::new(),
        nodes: Vec::new(),
    };
    machine.header()?;
    loop {
        if let Some(root) = machine.step()? {
            return Ok(Pickle {
                nodes: machine.nodes,
                root,
                length: machine.at,
            });
        }
    }
}

struct Machine<'a> {
    input: &'a [u8],
    at: usize,
    opcode_at: usize,
    stack: Vec<Value<'a>>,
    marks: Vec<usize>,
    memo: Vec<Value<'a>>,
    nodes: Vec<Compound<'a>>,
}

type Step<T> = Result<T, PickleError>;

impl<'a> Machine<'a> {
    fn header(&mut self) -> Step<()> {
        match self.input {
            [0x80, 2..=5, ..] => {
                self.at = 2;
                Ok(())
            }
            [0x80, version, ..] => Err(self.error(Problem::Protocol {
                found: format!("protocol {version}"),
            })),
            [] | [0x80] => Err(self.truncated(2 - self.input.len() as u64)),
            [first, ..] => Err(self.error(Problem::Protocol {
                found: format!("the first byte is 0x{first:02x}, not 0x80"),
            })),
        }
    }

    /// Carries out one opcode; gives the pickle's value at STOP.
    fn step(&mut self) -> Step<Option<Value<'a>>> {
        self.opcode_at = self.at;
        let opcode = self.byte()?;
        match opcode {
            b'.' => return self.pop("STOP").map(Some),
            // protocol and frames
            0x80 => {
                let version = self.byte()?;
                if !(2..=5).contains(&version) {
                    return Err(self.error(Problem::Protocol {
                        found: format!("protocol {version}"),
                    }));
                }
            }
            0x95 => {
                let length = self.u64()?;
                let rest = (self.input.len() - self.at) as u64;
                if length > rest {
                    return Err(self.truncated(length - rest));
                }
            }
            // scalars
            b'N' => self.push(Value::None)?,
            0x88 => self.push(Value::Bool(true))?,
            0x89 => self.push(Value::Bool(false))?,
            b'K' => {
                let n = self.byte()?;
                self.push(Value::Int(i64::from(n)))?;
            }
            b'M' => {
                let n = u16::from_le_bytes(self.array()?);
                self.push(Value::Int(i64::from(n)))?;
            }
            b'J' => {
                let n = i32::from_le_bytes(self.array()?);
                self.push(Value::Int(i64::from(n)))?;
            }
            0x8a => {
                let length = self.byte()?;
                self.long(u64::from(length))?;
            }
            0x8b => {
                let length = self.u32()?;
                self.long(u64::from(length))?;
            }
            b'G' => {
                let x = f64::from_be_bytes(self.array()?);
                self.push(Value::Float(x))?;
            }
            // texts and bytes
            0x8c => {
                let length = self.byte()?;
                self.text(u64::from(length))?;
            }
            b'X' => {
                let length = self.u32()?;
                self.text(u64::from(length))?;
            }
            0x8d => {
                let length = self.u64()?;
                self.text(length)?;
            }
            b'U' => {
                let length = self.byte()?;
                self.old_text(u64::from(length))?;
            }
            b'T' => {
                let length = self.u32()?;
                self.old_text(u64::from(length))?;
            }
            b'C' => {
                let length = self.byte()?;
                self.bytes(u64::from(length))?;
            }
            b'B' => {
                let length = self.u32()?;
                self.bytes(u64::from(length))?;
            }
            0x8e | 0x96 => {
                let length = self.u64()?;
                self.bytes(length)?;
            }
            // the stack and the memo
            b'(' => {
                self.limit("mark", self.marks.len())?;
                self.marks.push(self.stack.len());
            }
            b'0' => {
                let floor = self.floor();
                if self.stack.len() > floor {
                    self.stack.pop();
                } else if self.marks.pop().is_none() {
                    return Err(self.error(Problem::Underflow { opcode: "POP" }));
                }
            }
            b'1' => {
                self.since_mark("POP_MARK")?;
            }
            b'2' => {
                let top = self.top("DUP")?;
                self.push(top)?;
            }
            0x94 => {
                let top = self.top("MEMOIZE")?;
                self.memo.push(top);
            }
            b'q' => {
                let index = self.byte()?;
                self.remember("BINPUT", usize::from(index))?;
            }
            b'r' => {
                let index = self.u32()?;
                self.remember("LONG_BINPUT", index as usize)?;
            }
            b'h' => {
                let index = self.byte()?;
                self.recall(usize::from(index))?;
            }
            b'j' => {
                let index = self.u32()?;
                self.recall(index as usize)?;
            }
            // containers
            b')' => self.compound(Compound::Tuple(Vec::new()))?,
            0x85 => self.tuple("TUPLE1", 1)?,
            0x86 => self.tuple("TUPLE2", 2)?,
            0x87 => self.tuple("TUPLE3", 3)?,
            b't' => {
                let items = self.since_mark("TUPLE")?;
                self.compound(Compound::Tuple(items))?;
            }
            b']' => self.compound(Compound::List(Vec::new()))?,
            b'l' => {
                let items = self.since_mark("LIST")?;
                self.compound(Compound::List(items))?;
            }
            b'a' => {
                let at = self.below("APPEND", 1)?;
                self.append("APPEND", at)?;
            }
            b'e' => {
                let at = self.marked("APPENDS")?;
                self.append("APPENDS", at)?;
            }
            b'}' => self.compound(Compound::Dict(Vec::new()))?,
            b'd' => {
                let at = self.marked("DICT")?;
                let items = self.stack.split_off(at);
                self.compound(Compound::Dict(Vec::new()))?;
                let at = self.stack.len();
                self.stack.extend(items);
                self.set("DICT", at)?;
            }
            b's' => {
                let at = self.below("SETITEM", 2)?;
                self.set("SETITEM", at)?;
            }
            b'u' => {
                let at = self.marked("SETITEMS")?;
                self.set("SETITEMS", at)?;
            }
            0x8f => self.compound(Compound::Set(Vec::new()))?,
            0x90 => {
                let at = self.marked("ADDITEMS")?;
                self.add(at)?;
            }
            0x91 => {
                let items = self.since_mark("FROZENSET")?;
                self.compound(Compound::Set(items))?;
            }
            // globals and objects
            b'c' => {
                let module = self.line()?;
                let name = self.line()?;
                self.global(module, name)?;
            }
            0x93 => {
                let name = self.pop("STACK_GLOBAL")?;
                let module = self.pop("STACK_GLOBAL")?;
                match (module, name) {
                    (Value::Str(module), Value::Str(name)) => self.global(module, name)?,
                    (Value::Str(_), other) | (other, _) => {
                        return Err(self.kind("STACK_GLOBAL", "two texts", other));
                    }
                }
            }
            b'R' => {
                let args = self.pop("REDUCE")?;
                let class = self.pop("REDUCE")?;
                self.call("REDUCE", class, args)?;
            }
            0x81 => {
                let args = self.pop("NEWOBJ")?;
                let class = self.pop("NEWOBJ")?;
                self.call("NEWOBJ", class, args)?;
            }
            0x92 => {
                let _named = self.pop("NEWOBJ_EX")?;
                let args = self.pop("NEWOBJ_EX")?;
                let class = self.pop("NEWOBJ_EX")?;
                self.call("NEWOBJ_EX", class, args)?;
            }
            b'b' => {
                let state = self.pop("BUILD")?;
                self.build(state)?;
            }
            b'Q' => {
                let id = self.pop("BINPERSID")?;
                self.compound(Compound::Persistent(id))?;
            }
            _ => return Err(self.error(Problem::Opcode { opcode })),
        }
        Ok(None)
    }
}
