//! What the numbers of a tensor look like, for the screen.

/// Statistics of a tensor's values.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Values {
    /// Elements.
    pub elements: u64,
    /// Elements that are zero.
    pub zeros: u64,
    /// Elements that are not a number.
    pub nan: u64,
    /// Elements that are infinite.
    pub infinite: u64,
    /// Smallest and largest finite element, mean and standard deviation; none if no element is finite.
    pub numbers: Option<Numbers>,
    /// Finite elements in equal parts from the smallest to the largest.
    pub histogram: Vec<u64>,
}

/// Range and moments of finite elements.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Numbers {
    /// Smallest.
    pub min: f64,
    /// Largest.
    pub max: f64,
    /// Mean.
    pub mean: f64,
    /// Standard deviation.
    pub std: f64,
}
