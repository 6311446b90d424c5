//! What a pickle holds.

use super::Known;

/// A pickle's values.
#[derive(Debug, Clone)]
pub struct Pickle<'a> {
    /// Every compound value; a [`Node`] is an index.
    pub(super) nodes: Vec<Compound<'a>>,
    /// The value that the pickle stands for.
    pub(super) root: Value<'a>,
    /// Bytes up to and with STOP.
    pub(super) length: usize,
}

/// A value: a scalar or text itself, everything else by its place in the arena.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value<'a> {
    /// `None`.
    None,
    /// `True` or `False`.
    Bool(bool),
    /// An integer of 64 bits at most.
    Int(i64),
    /// A float.
    Float(f64),
    /// A `str`.
    Str(&'a str),
    /// `bytes` or `bytearray`.
    Bytes(&'a [u8]),
    /// A class or function of the list, by itself.
    Global(&'static Known),
    /// A compound value.
    Node(Node),
}

/// The place of a compound value in its pickle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Node(pub(super) u32);

/// A value made of others.
#[derive(Debug, Clone, PartialEq)]
pub enum Compound<'a> {
    /// A `tuple`, or a `torch.Size`.
    Tuple(Vec<Value<'a>>),
    /// A `list` or `deque`.
    List(Vec<Value<'a>>),
    /// A `set` or `frozenset`.
    Set(Vec<Value<'a>>),
    /// A `dict`, `OrderedDict` or `defaultdict`, entries in the order of the pickle.
    Dict(Vec<(Value<'a>, Value<'a>)>),
    /// What a known class or function was to be called with, and the state that was to be set. Nothing was called.
    Object {
        /// The class or function.
        class: &'static Known,
        /// Its arguments, a tuple.
        args: Value<'a>,
        /// The state of BUILD: a dict of attributes, or what the class makes of it.
        state: Option<Value<'a>>,
    },
    /// A persistent id: torch refers to the record of a storage by it.
    Persistent(Value<'a>),
    /// An integer of more than 64 bits, little-endian two's complement.
    Long(&'a [u8]),
}

impl<'a> Pickle<'a> {
    /// The value that the pickle stands for.
    pub const fn root(&self) -> Value<'a> {
        self.root
    }

    /// Bytes that the pickle took of the input, up to and with STOP.
    pub const fn length(&self) -> usize {
        self.length
    }

    /// The compound behind a value; none for a scalar, text or global, and for a node of another pickle.
    pub fn compound(&self, value: Value<'a>) -> Option<&Compound<'a>> {
        match value {
            Value::Node(Node(index)) => self.nodes.get(index as usize),
            _ => None,
        }
    }

    /// The elements of a tuple or list.
    pub fn sequence(&self, value: Value<'a>) -> Option<&[Value<'a>]> {
        match self.compound(value)? {
            Compound::Tuple(items) | Compound::List(items) => Some(items),
            _ => None,
        }
    }

    /// The entries of a dict.
    pub fn dict(&self, value: Value<'a>) -> Option<&[(Value<'a>, Value<'a>)]> {
        match self.compound(value)? {
            Compound::Dict(entries) => Some(entries),
            _ => None,
        }
    }

    /// The entry of a dict under a text; the last if there are several, as Python keeps it.
    pub fn get(&self, value: Value<'a>, key: &str) -> Option<Value<'a>> {
        let entries = self.dict(value)?;
        let entry = entries.iter().rev().find(|(k, _)| *k == Value::Str(key));
        entry.map(|(_, v)| *v)
    }

    /// Class, arguments and state of an object.
    pub fn object(
        &self,
        value: Value<'a>,
    ) -> Option<(&'static Known, Value<'a>, Option<Value<'a>>)> {
        match self.compound(value)? {
            Compound::Object { class, args, state } => Some((class, *args, *state)),
            _ => None,
        }
    }

    /// What kind of value it is, in a word or two.
    pub fn kind(&self, value: Value<'a>) -> String {
        match value {
            Value::None => "None".to_owned(),
            Value::Bool(_) => "a bool".to_owned(),
            Value::Int(_) => "an int".to_owned(),
            Value::Float(_) => "a float".to_owned(),
            Value::Str(_) => "a str".to_owned(),
            Value::Bytes(_) => "bytes".to_owned(),
            Value::Global(known) => known.to_string(),
            Value::Node(_) => match self.compound(value) {
                Some(Compound::Tuple(_)) => "a tuple".to_owned(),
                Some(Compound::List(_)) => "a list".to_owned(),
                Some(Compound::Set(_)) => "a set".to_owned(),
                Some(Compound::Dict(_)) => "a dict".to_owned(),
                Some(Compound::Object { class, .. }) => format!("an object of {class}"),
                Some(Compound::Persistent(_)) => "a persistent id".to_owned(),
                Some(Compound::Long(_)) => "a long int".to_owned(),
                None => "a value of another pickle".to_owned(),
            },
        }
    }
}

impl Value<'_> {
    /// A count or an offset: an integer that is not negative.
    pub fn count(self) -> Option<u64> {
        match self {
            Self::Int(n) => u64::try_from(n).ok(),
            _ => None,
        }
    }
}
