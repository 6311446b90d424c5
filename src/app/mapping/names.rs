//! Many names in one text.

/// Names one after another in one allocation: a model may have a hundred thousand.
#[derive(Debug, Clone, Default)]
pub struct Names {
    text: String,
    /// Where each ends.
    ends: Vec<u32>,
}

impl Names {
    /// The names of an iterator.
    pub fn new<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        let mut list = Self::default();
        for name in names {
            list.text.push_str(name);
            list.ends.push(list.text.len() as u32);
        }
        list
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Where name `index` begins in the text.
    pub(super) fn start(&self, index: usize) -> u32 {
        index.checked_sub(1).map_or(0, |before| self.ends[before])
    }

    /// Name `index`.
    ///
    /// # Panics
    /// If there are not so many.
    pub fn get(&self, index: usize) -> &str {
        &self.text[self.start(index) as usize..self.ends[index] as usize]
    }

    /// A part of the text.
    pub(super) fn part(&self, start: u32, len: u32) -> &str {
        &self.text[start as usize..(start + len) as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_back() {
        let names = Names::new(["a.b", "", "c"]);
        let all: Vec<&str> = (0..names.len()).map(|i| names.get(i)).collect();
        assert_eq!(all, ["a.b", "", "c"]);
        assert!(Names::new([]).is_empty());
    }
}
