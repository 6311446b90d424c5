//! Writing pickles: opcodes of protocol 2 or 4, in the order that Python's own pickler would use.

/// An entry of the memo: a value that was written before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memo(u32);

/// Appends opcodes to a buffer.
///
/// Every value is one call; containers are opened, filled and closed by their own calls. Nothing is memoized unless asked for.
#[derive(Debug)]
pub struct Writer {
    out: Vec<u8>,
    memo: u32,
    protocol: u8,
}

impl Writer {
    /// A pickle of protocol 2, which `torch.save` writes, or 4, which `pickle.dump` writes.
    pub fn new(protocol: u8) -> Self {
        Self {
            out: vec![0x80, protocol],
            memo: 0,
            protocol,
        }
    }

    /// Ends the pickle and gives its bytes. Readable by [`parse`](super::parse).
    pub fn finish(mut self) -> Vec<u8> {
        self.out.push(b'.');
        self.out
    }

    /// Remembers the value on top.
    pub fn memoize(&mut self) -> Memo {
        let index = self.memo;
        self.memo += 1;
        if self.protocol >= 4 {
            self.out.push(0x94);
        } else if let Ok(short) = u8::try_from(index) {
            self.out.extend([b'q', short]);
        } else {
            self.out.push(b'r');
            self.out.extend(index.to_le_bytes());
        }
        Memo(index)
    }

    /// A remembered value.
    pub fn get(&mut self, memo: Memo) {
        if let Ok(short) = u8::try_from(memo.0) {
            self.out.extend([b'h', short]);
        } else {
            self.out.push(b'j');
            self.out.extend(memo.0.to_le_bytes());
        }
    }

    /// `None`.
    pub fn none(&mut self) {
        self.out.push(b'N');
    }

    /// `True` or `False`.
    pub fn bool(&mut self, value: bool) {
        self.out.push(if value { 0x88 } else { 0x89 });
    }

    /// An integer.
    pub fn int(&mut self, value: i64) {
        if let Ok(byte) = u8::try_from(value) {
            self.out.extend([b'K', byte]);
        } else if let Ok(short) = u16::try_from(value) {
            self.out.push(b'M');
            self.out.extend(short.to_le_bytes());
        } else if let Ok(int) = i32::try_from(value) {
            self.out.push(b'J');
            self.out.extend(int.to_le_bytes());
        } else {
            // two's complement without bytes that repeat the sign
            let bytes = value.to_le_bytes();
            let sign = if value < 0 { 0xff } else { 0 };
            let mut length = 8;
            while bytes[length - 1] == sign && (bytes[length - 2] ^ sign) & 0x80 == 0 {
                length -= 1;
            }
            self.out.extend([0x8a, length as u8]);
            self.out.extend(&bytes[..length]);
        }
    }

    /// A size, offset or count.
    pub fn count(&mut self, value: u64) {
        self.int(i64::try_from(value).expect("sizes of files and tensors are below 2^63"));
    }

    /// A float.
    pub fn float(&mut self, value: f64) {
        self.out.push(b'G');
        self.out.extend(value.to_be_bytes());
    }

    /// A text.
    pub fn text(&mut self, text: &str) {
        match u8::try_from(text.len()) {
            Ok(short) if self.protocol >= 4 => self.out.extend([0x8c, short]),
            _ => {
                self.out.push(b'X');
                let length = u32::try_from(text.len()).expect("names are below 4 GiB");
                self.out.extend(length.to_le_bytes());
            }
        }
        self.out.extend(text.as_bytes());
    }

    /// A class or function.
    pub fn global(&mut self, module: &str, name: &str) {
        if self.protocol >= 4 {
            self.text(module);
            self.text(name);
            self.out.push(0x93);
        } else {
            self.out.push(b'c');
            self.out.extend(module.as_bytes());
            self.out.push(b'\n');
            self.out.extend(name.as_bytes());
            self.out.push(b'\n');
        }
    }

    /// Opens what [`tuple`](Self::tuple), [`set_items`](Self::set_items) or [`appends`](Self::appends) will close.
    pub fn mark(&mut self) {
        self.out.push(b'(');
    }

    /// Closes a tuple of the values since the mark.
    pub fn tuple(&mut self) {
        self.out.push(b't');
    }

    /// A tuple of integers.
    pub fn ints(&mut self, values: impl ExactSizeIterator<Item = u64>) {
        let length = values.len();
        if length > 3 {
            self.mark();
        }
        for value in values {
            self.count(value);
        }
        self.out.push(match length {
            0 => b')',
            1 => 0x85,
            2 => 0x86,
            3 => 0x87,
            _ => b't',
        });
    }

    /// A tuple of the one value on top.
    pub fn tuple1(&mut self) {
        self.out.push(0x85);
    }

    /// `()`.
    pub fn empty_tuple(&mut self) {
        self.out.push(b')');
    }

    /// `{}`.
    pub fn empty_dict(&mut self) {
        self.out.push(b'}');
    }

    /// `[]`.
    pub fn empty_list(&mut self) {
        self.out.push(b']');
    }

    /// Puts keys and values since the mark into the dict below.
    pub fn set_items(&mut self) {
        self.out.push(b'u');
    }

    /// Puts the values since the mark into the list below.
    pub fn appends(&mut self) {
        self.out.push(b'e');
    }

    /// Puts the value on top into the list below.
    pub fn append(&mut self) {
        self.out.push(b'a');
    }

    /// Calls the function below with the tuple on top.
    pub fn reduce(&mut self) {
        self.out.push(b'R');
    }

    /// Makes an object of the class below with the tuple on top.
    pub fn new_object(&mut self) {
        self.out.push(0x81);
    }

    /// Sets the state on top.
    pub fn build(&mut self) {
        self.out.push(b'b');
    }

    /// Makes the value on top a persistent id.
    pub fn persistent(&mut self) {
        self.out.push(b'Q');
    }
}
