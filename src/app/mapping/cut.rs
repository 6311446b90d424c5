//! The layout that the screen cuts tensors by.

use super::Model;
use crate::mapping::{Coordinates, Layout, LayoutOptions, MappingError, ViewTensor};
use crate::plan::{Degrees, stages};

/// Most places that ranks can differ in.
const MOST: usize = 4096;
/// Most ranks that are looked through for those of a place.
const LARGEST_WORLD: usize = 1 << 20;

/// A degree that can be changed on the screen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CutAxis {
    /// Tensor parallel.
    #[default]
    Tp,
    /// Pipeline parallel.
    Pp,
    /// Chunks of layers a stage.
    Vpp,
    /// Expert parallel.
    Ep,
    /// Tensor parallel of the experts.
    Etp,
}

impl CutAxis {
    /// Every axis, in the order of the cycle.
    pub const ALL: [Self; 5] = [Self::Tp, Self::Pp, Self::Vpp, Self::Ep, Self::Etp];

    /// Its short name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tp => "tp",
            Self::Pp => "pp",
            Self::Vpp => "vpp",
            Self::Ep => "ep",
            Self::Etp => "etp",
        }
    }

    /// The next one of the cycle.
    #[must_use]
    pub fn next(self) -> Self {
        Self::ALL[(self as usize + 1) % Self::ALL.len()]
    }

    /// Its degree.
    pub fn of(self, degrees: &Degrees) -> usize {
        match self {
            Self::Tp => degrees.tp,
            Self::Pp => degrees.pp,
            Self::Vpp => degrees.vpp,
            Self::Ep => degrees.ep,
            Self::Etp => degrees.etp,
        }
    }

    /// The degrees with this one changed.
    #[must_use]
    pub fn with(self, mut degrees: Degrees, degree: usize) -> Degrees {
        match self {
            Self::Tp => degrees.tp = degree,
            Self::Pp => degrees.pp = degree,
            Self::Vpp => degrees.vpp = degree,
            Self::Ep => degrees.ep = degree,
            Self::Etp => degrees.etp = degree,
        }
        degrees
    }
}

/// What the ranks of one place hold of a tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holding {
    /// The place.
    pub at: Coordinates,
    /// The tensor in the module of such a rank.
    pub tensor: ViewTensor,
}

/// The layout of some degrees, or why the model cannot have it.
pub(super) fn layout(model: &Model, degrees: &Degrees) -> Result<Layout, String> {
    let config = model.table.config();
    let stages = stages(&config.text, degrees).ok_or_else(|| {
        format!(
            "{} layers do not divide into pp * vpp = {} * {} chunks",
            config.text.num_hidden_layers, degrees.pp, degrees.vpp
        )
    })?;
    let options = |world| LayoutOptions {
        tp: degrees.tp,
        ep: degrees.ep,
        etp: degrees.etp,
        world,
        ..LayoutOptions::default()
    };
    let told = |error: MappingError| match error.hint() {
        Some(hint) => format!("{error}; {hint}"),
        None => error.to_string(),
    };
    let least = Layout::new(config, &options(None), stages.clone()).map_err(told)?;
    if least.world() > MOST {
        return Err(format!(
            "the layout has {} places, and the screen draws up to {MOST}",
            least.world()
        ));
    }
    // The recipe's world, if it holds the layout; else the smallest that does.
    let world = degrees.world_size();
    if world == least.world() || world > LARGEST_WORLD {
        return Ok(least);
    }
    Ok(Layout::new(config, &options(Some(world)), stages).unwrap_or(least))
}

/// What each place holds of an entry, in the order of ranks; places that hold nothing are left out.
pub fn holdings(model: &Model, layout: &Layout, entry: usize) -> Vec<Holding> {
    let places = layout.coordinates().into_iter();
    places
        .flat_map(|at| {
            let held = layout.held(&model.table, entry, at);
            held.into_iter().map(move |tensor| Holding { at, tensor })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{ExpertStyle, ModelConfig, TextConfig};

    #[test]
    fn ranks_hold_equal_parts_and_a_bad_cut_says_why() {
        let config = ModelConfig {
            text: TextConfig::default(),
            vision: None,
        };
        let model = Model::new("9b".into(), &config, ExpertStyle::QWEN3_5);
        let degrees = Degrees {
            tp: 4,
            pp: 2,
            ..Degrees::default()
        };
        let layout = super::layout(&model, &degrees).expect("it divides");
        let name = "decoder.layers.19.self_attention.linear_qkv.weight";
        let entry = model.table.find(name).expect("it is there");
        let held = holdings(&model, &layout, entry);
        assert_eq!(held.len(), 4);
        let rows: usize = held.iter().map(|h| h.tensor.shape.0[0]).sum();
        assert_eq!(rows, model.table.entries()[entry].shape.0[0]);
        assert!(held.iter().all(|h| h.at.pp == 1));
        assert_eq!(
            held[0].tensor.name,
            "decoder.layers.3.self_attention.linear_qkv.weight"
        );
        let bad = super::layout(&model, &Degrees { pp: 3, ..degrees });
        assert!(bad.expect_err("32 / 3").contains("32 layers"));
        let bad = super::layout(&model, &Degrees { tp: 3, ..degrees });
        assert!(bad.expect_err("16 / 3").contains("not divisible"));
        // Twice as many ranks as the layout needs, in data parallel.
        let layout = super::layout(&model, &Degrees { dp: 2, ..degrees }).expect("it divides");
        assert_eq!((layout.world(), layout.ranks_at(held[0].at).len()), (16, 2));
    }

    #[test]
    fn a_layout_of_very_many_places_is_not_drawn() {
        let entry = crate::spec::find("397b-a17b").expect("it is published");
        let model = Model::new("397b".into(), &entry.model, entry.experts);
        let degrees = Degrees {
            ep: 512,
            etp: 1024,
            ..Degrees::default()
        };
        let bad = super::layout(&model, &degrees).expect_err("half a million");
        assert!(bad.contains("524288 places"), "{bad}");
    }
}
