//! Writing an archive of `torch.save`, its data left out: what comes before the scalars and what comes after.

use super::HEADER;

/// Data of every record begins at a multiple of this, as torch has it, so that it can be mapped.
pub(in super::super) const ALIGN: u64 = 64;

/// Flags: sizes and CRC follow the data; names are UTF-8.
const FLAGS: u16 = 0x0808;

/// An archive under construction.
///
/// Records are appended whole with [`record`](Self::record). One record may be left open: [`open`](Self::open) ends the head, the caller puts
/// the data behind it, [`close`](Self::close) goes on after it. Sizes must be below 4 GiB, which the [plan](super::super::Plan) sees to.
#[derive(Debug)]
pub(in super::super) struct Build {
    bytes: Vec<u8>,
    /// Byte of the archive at which `bytes` begins.
    base: u64,
    folder: &'static str,
    entries: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    name: String,
    crc: u32,
    size: u64,
    header: u64,
}

impl Build {
    /// An archive whose records are called `folder/...`.
    pub(in super::super) fn new(folder: &'static str) -> Self {
        Self {
            bytes: Vec::with_capacity(1024),
            base: 0,
            folder,
            entries: Vec::new(),
        }
    }

    /// Appends a record.
    pub(in super::super) fn record(&mut self, name: &str, data: &[u8]) {
        self.header(name, data.len() as u64);
        self.bytes.extend(data);
        self.descriptor(crc32fast::hash(data));
    }

    /// Appends the header of a record whose data the caller writes; gives the head so far, which the data follows.
    pub(in super::super) fn open(&mut self, name: &str, size: u64) -> Vec<u8> {
        self.header(name, size);
        self.base += self.bytes.len() as u64 + size;
        std::mem::take(&mut self.bytes)
    }

    /// Goes on after the data of the open record.
    pub(in super::super) fn close(&mut self, crc: u32) {
        self.descriptor(crc);
    }

    /// Appends the directory; gives the bytes since the last [`open`](Self::open).
    pub(in super::super) fn finish(mut self) -> Vec<u8> {
        let start = self.at();
        for entry in &self.entries {
            let name = format!("{}/{}", self.folder, entry.name);
            let out = &mut self.bytes;
            out.extend(b"PK\x01\x02");
            for half in [0, 0, FLAGS, 0, 0, 0] {
                out.extend(half.to_le_bytes());
            }
            for word in [entry.crc, entry.size as u32, entry.size as u32] {
                out.extend(word.to_le_bytes());
            }
            for half in [name.len() as u16, 0, 0, 0, 0, 0, 0] {
                out.extend(half.to_le_bytes());
            }
            out.extend((entry.header as u32).to_le_bytes());
            out.extend(name.as_bytes());
        }
        let size = self.at() - start;
        let count = self.entries.len() as u16;
        let out = &mut self.bytes;
        out.extend(b"PK\x05\x06");
        for half in [0, 0, count, count] {
            out.extend(half.to_le_bytes());
        }
        for word in [size as u32, start as u32] {
            out.extend(word.to_le_bytes());
        }
        out.extend([0, 0]);
        self.bytes
    }

    fn at(&self) -> u64 {
        self.base + self.bytes.len() as u64
    }

    /// The header of a record, padded by an extra field so that the data is aligned.
    fn header(&mut self, name: &str, size: u64) {
        let header = self.at();
        let full = format!("{}/{name}", self.folder);
        // an extra field takes four bytes for its id and length
        let bare = header + HEADER as u64 + full.len() as u64 + 4;
        let padding = bare.next_multiple_of(ALIGN) - bare;
        self.bytes.extend(b"PK\x03\x04");
        for half in [0, FLAGS, 0, 0, 0] {
            self.bytes.extend(half.to_le_bytes());
        }
        self.bytes.extend([0; 12]); // CRC and sizes, which the descriptor has
        for half in [full.len() as u16, padding as u16 + 4] {
            self.bytes.extend(half.to_le_bytes());
        }
        self.bytes.extend(full.as_bytes());
        self.bytes.extend(b"FB");
        self.bytes.extend((padding as u16).to_le_bytes());
        self.bytes
            .extend(std::iter::repeat_n(b'Z', padding as usize));
        self.entries.push(Entry {
            name: name.to_owned(),
            crc: 0,
            size,
            header,
        });
    }

    /// What follows the last record's data.
    fn descriptor(&mut self, crc: u32) {
        let last = self.entries.last_mut().expect("a record was begun");
        last.crc = crc;
        self.bytes.extend(b"PK\x07\x08");
        for word in [crc, last.size as u32, last.size as u32] {
            self.bytes.extend(word.to_le_bytes());
        }
    }
}
