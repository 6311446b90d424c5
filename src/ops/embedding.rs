//! The embedding: rows of a table by token id.

#[cfg(feature = "cuda")]
mod cuda;
mod plan;
mod reference;

pub use plan::Plan;

use candle_core::{Device, Result, Tensor, bail};

use super::{host, transfer};

/// Token ids of a batch, and on a GPU what its kernels read of them.
#[derive(Debug, Clone)]
pub struct Ids {
    ids: Vec<u32>,
    placed: Option<Placed>,
}

/// [`Ids`] on a GPU.
#[derive(Debug, Clone)]
pub struct Placed {
    /// `[N]` u32.
    pub ids: Tensor,
    /// The tables of a [`Plan`], which the gradient needs.
    pub plan: Option<PlacedPlan>,
}

/// A [`Plan`] on a GPU, u32.
#[derive(Debug, Clone)]
pub struct PlacedPlan {
    /// `[N]`.
    pub order: Tensor,
    /// `[3 N]`.
    pub runs: Tensor,
    /// `[3 several(N)]`.
    pub several: Tensor,
}

impl Ids {
    /// Ids in the host's memory, which is all that the CPU needs.
    pub fn new(ids: Vec<u32>) -> Self {
        Self { ids, placed: None }
    }

    /// With what a GPU needs of them, made by the caller.
    #[must_use]
    pub fn placed(mut self, placed: Placed) -> Self {
        self.placed = Some(placed);
        self
    }

    /// With what `device` needs of them; with a table's `vocabulary` also for its gradient.
    fn on(self, device: &Device, vocabulary: Option<usize>) -> Result<Self> {
        if device.is_cpu() {
            return Ok(self);
        }
        let plan = match vocabulary {
            Some(vocabulary) => {
                let plan = Plan::new(&self.ids, vocabulary);
                Some(PlacedPlan {
                    order: transfer::upload_u32(&plan.order, device)?,
                    runs: transfer::upload_u32(&plan.runs, device)?,
                    several: transfer::upload_u32(&plan.several, device)?,
                })
            }
            None => None,
        };
        let ids = transfer::upload_u32(&self.ids, device)?;
        Ok(self.placed(Placed { ids, plan }))
    }

    fn check(&self, rows: usize) -> Result<()> {
        match self.ids.iter().find(|id| **id as usize >= rows) {
            Some(id) => bail!("embedding: token id {id}, but the vocabulary has {rows}"),
            None => Ok(()),
        }
    }
}

/// `y[n] = w[ids[n]]`.
///
/// # Shapes
/// `ids [N]`, `w [V, h]`, `y [N, h]`
///
/// # Errors
/// When an id is `V` or more.
pub fn forward(ids: &[u32], w: &Tensor) -> Result<Tensor> {
    let ids = Ids::new(ids.to_vec());
    ids.check(w.dim(0)?)?;
    forward_of(&ids.on(w.device(), None)?, w)
}

/// As [`forward`], of ids that are placed already on the device of `w`.
///
/// # Errors
/// When an id is `V` or more, or the ids are not placed.
pub fn forward_of(ids: &Ids, w: &Tensor) -> Result<Tensor> {
    let (rows, h) = w.dims2()?;
    ids.check(rows)?;
    #[cfg(feature = "cuda")]
    if w.device().is_cuda() {
        return cuda::forward(ids, w);
    }
    host::tensor(
        reference::forward(&ids.ids, &host::read("embedding", w)?, h),
        (ids.ids.len(), h),
    )
}

/// `dw[ids[n]] += dy[n]`, in the order of the tokens.
///
/// # Shapes
/// `ids [N]`, `dy [N, h]`, `dw [V, h]`
///
/// # Errors
/// When an id is `V` or more.
pub fn backward(dy: &Tensor, ids: &[u32], dw: &Tensor) -> Result<()> {
    let rows = dw.dim(0)?;
    let ids = Ids::new(ids.to_vec());
    ids.check(rows)?;
    backward_of(dy, &ids.on(dw.device(), Some(rows))?, dw)
}

/// As [`backward`], of ids that are placed already on the device of `dw`, with a plan for its vocabulary.
///
/// # Errors
/// When an id is `V` or more, or the ids are not placed.
pub fn backward_of(dy: &Tensor, ids: &Ids, dw: &Tensor) -> Result<()> {
    let (rows, h) = dw.dims2()?;
    ids.check(rows)?;
    host::check("embedding", "dy", dy, &[ids.ids.len(), h])?;
    #[cfg(feature = "cuda")]
    if dw.device().is_cuda() {
        return cuda::backward(dy, ids, dw);
    }
    let dy = host::read("embedding", dy)?;
    host::update("embedding", dw, |dw| {
        reference::backward(&dy, &ids.ids, h, dw);
    })
}
