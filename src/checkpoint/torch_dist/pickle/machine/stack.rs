//! The stack, the memo, and the values that opcodes build.

use super::super::error::Problem;
use super::super::known::{self, Kind, Known};
use super::super::value::{Compound, Node, Value};
use super::{Machine, Step};

impl<'a> Machine<'a> {
    /// Where the values since the last mark begin; what lies below is out of reach.
    pub(super) fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    pub(super) fn push(&mut self, value: Value<'a>) -> Step<()> {
        self.limit("stack depth", self.stack.len())?;
        self.stack.push(value);
        Ok(())
    }

    pub(super) fn pop(&mut self, opcode: &'static str) -> Step<Value<'a>> {
        let top = self.top(opcode)?;
        self.stack.pop();
        Ok(top)
    }

    pub(super) fn top(&self, opcode: &'static str) -> Step<Value<'a>> {
        match self.stack.last() {
            Some(top) if self.stack.len() > self.floor() => Ok(*top),
            _ => Err(self.error(Problem::Underflow { opcode })),
        }
    }

    pub(super) fn since_mark(&mut self, opcode: &'static str) -> Step<Vec<Value<'a>>> {
        let at = self.marked(opcode)?;
        Ok(self.stack.split_off(at))
    }

    /// Drops the last mark; where it was.
    pub(super) fn marked(&mut self, opcode: &'static str) -> Step<usize> {
        match self.marks.pop() {
            Some(mark) => Ok(mark),
            None => Err(self.error(Problem::Underflow { opcode })),
        }
    }

    /// Where the last `count` values begin.
    pub(super) fn below(&self, opcode: &'static str, count: usize) -> Step<usize> {
        match self.stack.len().checked_sub(count) {
            Some(at) if at >= self.floor() => Ok(at),
            _ => Err(self.error(Problem::Underflow { opcode })),
        }
    }

    pub(super) fn remember(&mut self, opcode: &'static str, index: usize) -> Step<()> {
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

    pub(super) fn recall(&mut self, index: usize) -> Step<()> {
        match self.memo.get(index) {
            Some(value) => self.push(*value),
            None => Err(self.error(Problem::Memo {
                index,
                entries: self.memo.len(),
            })),
        }
    }

    // compound values

    pub(super) fn node(&mut self, compound: Compound<'a>) -> Step<Value<'a>> {
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

    pub(super) fn compound(&mut self, compound: Compound<'a>) -> Step<()> {
        let value = self.node(compound)?;
        self.push(value)
    }

    pub(super) fn tuple(&mut self, opcode: &'static str, length: usize) -> Step<()> {
        let start = self.below(opcode, length)?;
        let items = self.stack.split_off(start);
        self.compound(Compound::Tuple(items))
    }

    /// The value below place `at` of the stack, which what lies from there on is put into; and its node.
    pub(super) fn receiver(&self, opcode: &'static str, at: usize) -> Step<(Value<'a>, usize)> {
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
    pub(super) fn append(&mut self, opcode: &'static str, at: usize) -> Step<()> {
        let (value, node) = self.receiver(opcode, at)?;
        let Some(Compound::List(list)) = self.nodes.get_mut(node) else {
            return Err(self.kind(opcode, "a list", value));
        };
        list.extend(self.stack.drain(at..));
        Ok(())
    }

    /// Puts keys and values from place `at` on into the dict below.
    pub(super) fn set(&mut self, opcode: &'static str, at: usize) -> Step<()> {
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
    pub(super) fn add(&mut self, at: usize) -> Step<()> {
        let (value, node) = self.receiver("ADDITEMS", at)?;
        let Some(Compound::Set(set)) = self.nodes.get_mut(node) else {
            return Err(self.kind("ADDITEMS", "a set", value));
        };
        set.extend(self.stack.drain(at..));
        Ok(())
    }

    pub(super) fn global(&mut self, module: &str, name: &str) -> Step<()> {
        match known::find(module, name) {
            Some(known) => self.push(Value::Global(known)),
            None => Err(self.error(Problem::Global {
                name: format!("{module:.80}.{name:.80}"),
            })),
        }
    }

    /// What a call of a known class or function stands for. Arguments are never copied, so that calls on one long list cost no memory.
    pub(super) fn call(
        &mut self,
        opcode: &'static str,
        class: Value<'a>,
        args: Value<'a>,
    ) -> Step<()> {
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

    pub(super) fn as_tuple(&self, value: Value<'a>) -> Option<&[Value<'a>]> {
        match value {
            Value::Node(Node(index)) => match self.nodes.get(index as usize) {
                Some(Compound::Tuple(items)) => Some(items),
                _ => None,
            },
            _ => None,
        }
    }

    pub(super) fn build(&mut self, new: Value<'a>) -> Step<()> {
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
