//! Whether contents are what the Hub says they are.

use std::fmt::Write as _;

use ring::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY, SHA256};

/// What the Hub says about a file's contents; the hex digits are its etag and its blob's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Checksum {
    /// Of the contents: large files.
    Sha256(String),
    /// Of the contents after `blob <size>\0`, which is git's object id: small files.
    Git(String),
    /// A server that says neither; the name is its etag. Only the size is checked.
    Unknown(String),
}

impl Checksum {
    /// What an etag is, by its form: 64 hex digits, 40, or anything else that can be a file's name.
    pub(super) fn of_etag(etag: &str) -> Option<Self> {
        let etag = etag.strip_prefix("W/").unwrap_or(etag).trim_matches('"');
        let hex = |length| {
            etag.len() == length
                && etag
                    .bytes()
                    .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
        };
        let name = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        match etag {
            _ if hex(64) => Some(Self::Sha256(etag.to_owned())),
            _ if hex(40) => Some(Self::Git(etag.to_owned())),
            _ if !etag.is_empty() && etag.len() <= 128 && etag.bytes().all(name) => {
                Some(Self::Unknown(etag.to_owned()))
            }
            _ => None,
        }
    }

    /// The name of the blob.
    pub fn etag(&self) -> &str {
        match self {
            Self::Sha256(etag) | Self::Git(etag) | Self::Unknown(etag) => etag,
        }
    }

    /// What kind of sum it is, for people.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Sha256(_) => "SHA-256",
            Self::Git(_) => "git SHA-1",
            Self::Unknown(_) => "size",
        }
    }

    /// Starts summing contents of `size` bytes.
    pub(super) fn start(&self, size: u64) -> Sum {
        Sum(match self {
            Self::Sha256(_) => Some(Context::new(&SHA256)),
            Self::Git(_) => {
                let mut context = Context::new(&SHA1_FOR_LEGACY_USE_ONLY);
                context.update(format!("blob {size}\0").as_bytes());
                Some(context)
            }
            Self::Unknown(_) => None,
        })
    }

    /// The sum that came out, if it is not the one the Hub says.
    pub(super) fn differs(&self, sum: Sum) -> Option<String> {
        let digest = sum.0?.finish();
        let mut hex = String::with_capacity(64);
        for byte in digest.as_ref() {
            let _ = write!(hex, "{byte:02x}");
        }
        (hex != self.etag()).then_some(hex)
    }
}

/// A sum under way.
pub(super) struct Sum(Option<Context>);

impl Sum {
    pub(super) fn update(&mut self, bytes: &[u8]) {
        if let Some(context) = &mut self.0 {
            context.update(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `printf hello | sha256sum` and `printf hello | git hash-object --stdin`.
    const SHA256_HELLO: &str = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
    const GIT_HELLO: &str = "b6fc4c620b67d95f953a5c1c1230aaab5db5a1b0";

    #[test]
    fn sums_are_those_of_sha256sum_and_git() {
        for etag in [SHA256_HELLO, GIT_HELLO, "opaque-1"] {
            let checksum = Checksum::of_etag(etag).expect("an etag");
            assert_eq!(checksum.etag(), etag);
            let differs = |text: &str| {
                let mut sum = checksum.start(5);
                sum.update(text.as_bytes());
                checksum.differs(sum).is_some()
            };
            assert!(!differs("hello"));
            assert_eq!(differs("hallo"), etag != "opaque-1");
        }
    }

    #[test]
    fn an_etag_names_no_path() {
        let read = |etag: &str| Checksum::of_etag(etag);
        assert_eq!(
            read(&format!("W/\"{GIT_HELLO}\"")),
            Some(Checksum::Git(GIT_HELLO.into()))
        );
        for wrong in ["", "\"\"", "../x", "a/b", "a.incomplete", "a b"] {
            assert_eq!(read(wrong), None, "{wrong:?}");
        }
    }
}
