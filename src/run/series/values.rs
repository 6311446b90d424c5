//! A column: a mapped part that does not change, and a grown part in memory.

use std::sync::Arc;

use bytemuck::Pod;
use memmap2::Mmap;

/// A growing list of numbers whose beginning may lie in a mapped file.
#[derive(Debug, Clone)]
pub(in crate::run) struct Values<T> {
    map: Option<Arc<Mmap>>,
    /// First byte of the mapped part, a multiple of `T`'s alignment.
    start: usize,
    /// Values of the mapped part in use.
    mapped: usize,
    grown: Vec<T>,
}

impl<T> Default for Values<T> {
    fn default() -> Self {
        Self {
            map: None,
            start: 0,
            mapped: 0,
            grown: vec![],
        }
    }
}

impl<T: Pod> Values<T> {
    /// `count` values from byte `start` of `map`; `None` if they do not lie in it or are not aligned.
    pub(in crate::run) fn mapped(map: &Arc<Mmap>, start: usize, count: usize) -> Option<Self> {
        let bytes = map.get(start..start.checked_add(count.checked_mul(size_of::<T>())?)?)?;
        bytemuck::try_cast_slice::<u8, T>(bytes).ok()?;
        Some(Self {
            map: Some(Arc::clone(map)),
            start,
            mapped: count,
            grown: vec![],
        })
    }

    pub(in crate::run) fn len(&self) -> usize {
        self.mapped + self.grown.len()
    }

    /// Values that lie in memory rather than in the mapped file.
    pub(in crate::run) fn grown(&self) -> usize {
        self.grown.len()
    }

    /// The mapped part and the grown part.
    pub(in crate::run) fn parts(&self) -> (&[T], &[T]) {
        let mapped = match &self.map {
            Some(map) => {
                bytemuck::cast_slice(&map[self.start..self.start + self.mapped * size_of::<T>()])
            }
            None => &[],
        };
        (mapped, &self.grown)
    }

    pub(in crate::run) fn get(&self, index: usize) -> T {
        let (mapped, grown) = self.parts();
        match mapped.get(index) {
            Some(&value) => value,
            None => grown[index - mapped.len()],
        }
    }

    pub(in crate::run) fn last(&self) -> Option<T> {
        self.len().checked_sub(1).map(|i| self.get(i))
    }

    pub(in crate::run) fn push(&mut self, value: T) {
        self.grown.push(value);
    }

    pub(in crate::run) fn extend(&mut self, values: &[T]) {
        self.grown.extend_from_slice(values);
    }

    /// Cuts to `length` values and returns those cut off.
    pub(in crate::run) fn split_off(&mut self, length: usize) -> Self {
        let (mapped, grown) = self.parts();
        let mut cut = mapped.get(length..).unwrap_or_default().to_vec();
        let from = length.saturating_sub(mapped.len()).min(grown.len());
        cut.extend_from_slice(&grown[from..]);
        self.grown.truncate(from);
        self.mapped = self.mapped.min(length);
        Self {
            grown: cut,
            ..Self::default()
        }
    }

    /// Calls `f` with the values of a range as at most two slices, in order.
    pub(in crate::run) fn slices(&self, range: std::ops::Range<usize>, mut f: impl FnMut(&[T])) {
        let (mapped, grown) = self.parts();
        let cut = mapped.len();
        if range.start < cut {
            f(&mapped[range.start..range.end.min(cut)]);
        }
        if range.end > cut {
            f(&grown[range.start.max(cut) - cut..range.end - cut]);
        }
    }

    /// How many values at the start satisfy `holds`, which must hold for a beginning only.
    pub(in crate::run) fn partition_point(&self, mut holds: impl FnMut(T) -> bool) -> usize {
        let (mapped, grown) = self.parts();
        let in_mapped = mapped.partition_point(|&v| holds(v));
        if in_mapped < mapped.len() {
            in_mapped
        } else {
            mapped.len() + grown.partition_point(|&v| holds(v))
        }
    }
}
