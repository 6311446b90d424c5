//! The name of a model on the Hub, with its revision.

use std::fmt;
use std::str::FromStr;

use super::HubError;

/// The branch that is meant where none is named.
const MAIN: &str = "main";
/// The longest name that the Hub takes.
const LONGEST: usize = 96;

/// `owner/name`, and which of its commits: a branch, a tag, `refs/pr/N` or a commit hash.
///
/// Reads and prints as `owner/name@revision`; `@main` is left out.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ModelId {
    /// The user or organization.
    pub owner: String,
    /// The repository.
    pub name: String,
    /// Branch, tag, `refs/pr/N` or commit hash.
    pub revision: String,
}

impl ModelId {
    /// The same model at another revision.
    pub fn at(mut self, revision: &str) -> Result<Self, HubError> {
        check_revision(revision).map_err(|why| HubError::Id {
            text: format!("{self}@{revision}"),
            why,
        })?;
        revision.clone_into(&mut self.revision);
        Ok(self)
    }

    /// `owner/name`.
    pub fn repository(&self) -> String {
        format!("{}/{}", self.owner, self.name)
    }

    /// Its folder in the cache: `models--owner--name`.
    pub fn folder(&self) -> String {
        format!("models--{}--{}", self.owner, self.name)
    }
}

impl FromStr for ModelId {
    type Err = HubError;

    fn from_str(text: &str) -> Result<Self, HubError> {
        let wrong = |why| HubError::Id {
            text: text.to_owned(),
            why,
        };
        let (repository, revision) = text.split_once('@').unwrap_or((text, MAIN));
        let (owner, name) = repository
            .split_once('/')
            .ok_or_else(|| wrong("it has no owner: write owner/name"))?;
        check_name(owner).map_err(wrong)?;
        check_name(name).map_err(wrong)?;
        if name.to_ascii_lowercase().ends_with(".git") {
            return Err(wrong("it ends in .git"));
        }
        check_revision(revision).map_err(wrong)?;
        Ok(Self {
            owner: owner.to_owned(),
            name: name.to_owned(),
            revision: revision.to_owned(),
        })
    }
}

impl fmt::Display for ModelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.owner, self.name)?;
        if self.revision != MAIN {
            write!(f, "@{}", self.revision)?;
        }
        Ok(())
    }
}

/// Whether a text is a commit hash: 40 hex digits, as the cache names its snapshots.
pub(super) fn is_commit(text: &str) -> bool {
    text.len() == 40
        && text
            .bytes()
            .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

/// The Hub's rules for the name of an owner or a repository.
fn check_name(name: &str) -> Result<(), &'static str> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if name.is_empty() {
        return Err("a part of it is empty");
    }
    if name.len() > LONGEST {
        return Err("a part of it has more than 96 characters");
    }
    if !name.chars().all(allowed) {
        return Err("only letters, digits, '-', '_' and '.' are allowed, with one '/'");
    }
    if name.starts_with(['-', '.']) || name.ends_with(['-', '.']) {
        return Err("a part of it starts or ends with '-' or '.'");
    }
    if name.contains("--") || name.contains("..") {
        return Err("it has '--' or '..'");
    }
    Ok(())
}

/// A revision becomes a path below `refs/`, so it must not lead out of there.
fn check_revision(revision: &str) -> Result<(), &'static str> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-_./+".contains(c);
    if revision.is_empty() {
        return Err("the revision is empty");
    }
    if revision.len() > 256 || !revision.chars().all(allowed) {
        return Err("the revision is no name of a branch, tag or commit");
    }
    if revision
        .split('/')
        .any(|part| part.is_empty() || part.starts_with('.'))
    {
        return Err("a part of the revision is empty or starts with '.'");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_prints_as_it_is_read() {
        for text in [
            "Qwen/Qwen3.5-0.8B",
            "a/b@refs/pr/3",
            "a_1/b.c@v1.0",
            "a/b@0123456789abcdef0123456789abcdef01234567",
        ] {
            let id: ModelId = text.parse().expect(text);
            assert_eq!(id.to_string(), text);
        }
        let id: ModelId = "Qwen/Qwen3.5-0.8B@main".parse().expect("an id");
        assert_eq!(id.to_string(), "Qwen/Qwen3.5-0.8B");
        assert_eq!(id.folder(), "models--Qwen--Qwen3.5-0.8B");
        assert_eq!(id.repository(), "Qwen/Qwen3.5-0.8B");
    }

    #[test]
    fn what_could_leave_the_cache_is_no_id() {
        for text in [
            "",
            "name",
            "/name",
            "owner/",
            "a/b/c",
            "../b",
            "a/..",
            "a/.b",
            "a--b/c",
            "a/b@",
            "a/b@../../x",
            "a/b@x//y",
            "a/b@/x",
            "a/b c",
            "a/b.git",
            "caf\u{e9}/b",
        ] {
            assert!(text.parse::<ModelId>().is_err(), "{text:?}");
        }
        let id: ModelId = "a/b".parse().expect("an id");
        assert!(id.at("..").is_err());
    }
}
