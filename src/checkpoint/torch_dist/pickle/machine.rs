//! The stack machine: opcodes in, values out.
//!
//! One loop without recursion. Lists and dicts grow by what lies on the stack, the stack grows by an element an opcode, so memory is linear
//! in the input; the memo must be dense, as every pickler writes it.

use super::error::{PickleError, Problem};
use super::known::{self, Kind, Known};
use super::value::{Compound, Node, Pickle, Value};

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

    // errors

    fn error(&self, problem: Problem) -> PickleError {
        PickleError {
            offset: self.opcode_at,
            problem,
        }
    }

    fn truncated(&self, missing: u64) -> PickleError {
        self.error(Problem::Truncated {
            length: self.input.len(),
            missing,
        })
    }

    fn kind(&self, opcode: &'static str, expected: &'static str, value: Value<'a>) -> PickleError {
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

    fn limit(&self, what: &'static str, value: usize) -> Step<()> {
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

    fn take(&mut self, length: u64) -> Step<&'a [u8]> {
        let rest = &self.input[self.at..];
        match usize::try_from(length).ok().and_then(|n| rest.get(..n)) {
            Some(bytes) => {
                self.at += bytes.len();
                Ok(bytes)
            }
            None => Err(self.truncated(length - rest.len() as u64)),
        }
    }

    fn byte(&mut self) -> Step<u8> {
        match self.input.get(self.at) {
            Some(byte) => {
                self.at += 1;
                Ok(*byte)
            }
            None => Err(self.truncated(1)),
        }
    }

    fn array<const N: usize>(&mut self) -> Step<[u8; N]> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N as u64)?);
        Ok(array)
    }

    fn u32(&mut self) -> Step<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Step<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn line(&mut self) -> Step<&'a str> {
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

    fn long(&mut self, length: u64) -> Step<()> {
        let bytes = self.take(length)?;
        if bytes.len() > 8 {
            return self.compound(Compound::Long(bytes));
        }
        let negative = bytes.last().is_some_and(|top| top & 0x80 != 0);
        let mut array = if negative { [0xff; 8] } else { [0; 8] };
        array[..bytes.len()].copy_from_slice(bytes);
        self.push(Value::Int(i64::from_le_bytes(array)))
    }

    fn text(&mut self, length: u64) -> Step<()> {
        let bytes = self.take(length)?;
        match std::str::from_utf8(bytes) {
            Ok(text) => self.push(Value::Str(text)),
            Err(_) => Err(self.error(Problem::Text)),
        }
    }

    /// A text of Python 2, which had no encoding.
    fn old_text(&mut self, length: u64) -> Step<()> {
        let bytes = self.take(length)?;
        self.push(std::str::from_utf8(bytes).map_or(Value::Bytes(bytes), Value::Str))
    }

    fn bytes(&mut self, length: u64) -> Step<()> {
        let bytes = self.take(length)?;
        self.push(Value::Bytes(bytes))
    }

    // stack and memo

    /// Where the values since the last mark begin; what lies below is out of reach.
    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn push(&mut self, value: Value<'a>) -> Step<()> {
        self.limit("stack depth", self.stack.len())?;
        self.stack.push(value);
        Ok(())
    }

    fn pop(&mut self, opcode: &'static str) -> Step<Value<'a>> {
        let top = self.top(opcode)?;
        self.stack.pop();
        Ok(top)
    }

    fn top(&self, opcode: &'static str) -> Step<Value<'a>> {
        match self.stack.last() {
            Some(top) if self.stack.len() > self.floor() => Ok(*top),
            _ => Err(self.error(Problem::Underflow { opcode })),
        }
    }

    fn since_mark(&mut self, opcode: &'static str) -> Step<Vec<Value<'a>>> {
        let at = self.marked(opcode)?;
        Ok(self.stack.split_off(at))
    }

    /// Drops the last mark; where it was.
    fn marked(&mut self, opcode: &'static str) -> Step<usize> {
        match self.marks.pop() {
            Some(mark) => Ok(mark),
            None => Err(self.error(Problem::Underflow { opcode })),
        }
    }

    /// Where the last `count` values begin.
    fn below(&self, opcode: &'static str, count: usize) -> Step<usize> {
        match self.stack.len().checked_sub(count) {
            Some(at) if at >= self.floor() => Ok(at),
            _ => Err(self.error(Problem::Underflow { opcode })),
        }
    }

    fn remember(&mut self, opcode: &'static str, index: usize) -> Step<()> {
        let top = self.top(opcode)?;
        if index > self.at {
            return Err(self.error(Problem::Excess {
                what: "memo index",
                value: index,
                length: self.input.len(),
            }));
        }
        if index >= self.memo.len() {
            self.memo.resize(index + 1, Value::None);
        }
        self.memo[index] = top;
        Ok(())
    }

    fn recall(&mut self, index: usize) -> Step<()> {
        match self.memo.get(index) {
            Some(value) => self.push(*value),
            None => Err(self.error(Problem::Memo {
                index,
                entries: self.memo.len(),
            })),
        }
    }

    // compound values

    fn node(&mut self, compound: Compound<'a>) -> Step<Value<'a>> {
        match u32::try_from(self.nodes.len()) {
            Ok(index) => {
                self.nodes.push(compound);
                Ok(Value::Node(Node(index)))
            }
            Err(_) => Err(self.error(Problem::Excess {
                what: "number of values",
                value: self.nodes.len(),
                length: self.input.len(),
            })),
        }
    }

    fn compound(&mut self, compound: Compound<'a>) -> Step<()> {
        let value = self.node(compound)?;
        self.push(value)
    }

    fn tuple(&mut self, opcode: &'static str, length: usize) -> Step<()> {
        let start = self.below(opcode, length)?;
        let items = self.stack.split_off(start);
        self.compound(Compound::Tuple(items))
    }

    /// The value below place `at` of the stack, which what lies from there on is put into; and its node.
    fn receiver(&self, opcode: &'static str, at: usize) -> Step<(Value<'a>, usize)> {
        match at.checked_sub(1) {
            Some(place) if place >= self.floor() => {
                let value = self.stack[place];
                let node = match value {
                    Value::Node(Node(index)) => index as usize,
                    _ => usize::MAX,
                };
                Ok((value, node))
            }
            _ => Err(self.error(Problem::Underflow { opcode })),
        }
    }

    /// Puts the values from place `at` on into the list below.
    fn append(&mut self, opcode: &'static str, at: usize) -> Step<()> {
        let (value, node) = self.receiver(opcode, at)?;
        let Some(Compound::List(list)) = self.nodes.get_mut(node) else {
            return Err(self.kind(opcode, "a list", value));
        };
        list.extend(self.stack.drain(at..));
        Ok(())
    }

    /// Puts keys and values from place `at` on into the dict below.
    fn set(&mut self, opcode: &'static str, at: usize) -> Step<()> {
        let (value, node) = self.receiver(opcode, at)?;
        let (pairs, rest) = self.stack[at..].as_chunks::<2>();
        if !rest.is_empty() {
            return Err(self.error(Problem::Underflow { opcode }));
        }
        let Some(Compound::Dict(dict)) = self.nodes.get_mut(node) else {
            return Err(self.kind(opcode, "a dict", value));
        };
        dict.extend(pairs.iter().map(|[key, value]| (*key, *value)));
        self.stack.truncate(at);
        Ok(())
    }

    /// Puts the values from place `at` on into the set below.
    fn add(&mut self, at: usize) -> Step<()> {
        let (value, node) = self.receiver("ADDITEMS", at)?;
        let Some(Compound::Set(set)) = self.nodes.get_mut(node) else {
            return Err(self.kind("ADDITEMS", "a set", value));
        };
        set.extend(self.stack.drain(at..));
        Ok(())
    }

    fn global(&mut self, module: &str, name: &str) -> Step<()> {
        match known::find(module, name) {
            Some(known) => self.push(Value::Global(known)),
            None => Err(self.error(Problem::Global {
                name: format!("{module:.80}.{name:.80}"),
            })),
        }
    }

    /// What a call of a known class or function stands for. Arguments are never copied, so that calls on one long list cost no memory.
    fn call(&mut self, opcode: &'static str, class: Value<'a>, args: Value<'a>) -> Step<()> {
        let Value::Global(class) = class else {
            return Err(self.kind(opcode, "a class or function", class));
        };
        let Some(arguments) = self.as_tuple(args) else {
            return Err(self.kind(opcode, "a tuple of arguments", args));
        };
        let compound = match (class.kind, arguments) {
            (Kind::Size, &[size]) if self.as_tuple(size).is_some() => return self.push(size),
            (Kind::Size, _) => return Err(self.kind(opcode, "a tuple in a tuple", args)),
            (Kind::Dict, [] | [Value::Global(Known { .. })]) => Compound::Dict(Vec::new()),
            (Kind::List, []) => Compound::List(Vec::new()),
            (Kind::Set, []) => Compound::Set(Vec::new()),
            (Kind::DType(_) | Kind::OtherDType, _) => {
                return Err(self.kind(opcode, "a class or function", Value::Global(class)));
            }
            _ => Compound::Object {
                class,
                args,
                state: None,
            },
        };
        self.compound(compound)
    }

    fn as_tuple(&self, value: Value<'a>) -> Option<&[Value<'a>]> {
        match value {
            Value::Node(Node(index)) => match self.nodes.get(index as usize) {
                Some(Compound::Tuple(items)) => Some(items),
                _ => None,
            },
            _ => None,
        }
    }

    fn build(&mut self, new: Value<'a>) -> Step<()> {
        let (value, node) = self.receiver("BUILD", self.stack.len())?;
        match self.nodes.get_mut(node) {
            Some(Compound::Object { state, .. }) => *state = Some(new),
            // attributes of an `OrderedDict`, as modules' state dicts have them
            Some(Compound::Dict(_)) => {}
            _ => return Err(self.kind("BUILD", "an object", value)),
        }
        Ok(())
    }
}
