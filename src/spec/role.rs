//! What a tensor of the model does.

/// What a tensor does; decides how it starts and how it is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Token embedding `[V, h]`; the head too where weights are tied.
    Embedding,
    /// Output head `[V, h]` of its own.
    Head,
    /// Zero-centred `RMSNorm`: the gain is `1 + w`, and `w` starts at 0.
    Norm,
    /// Norm of the gated delta net's output: the gain is `w`, which starts at 1.
    GdnNorm,
    /// Logarithm of the decay rate of a value head.
    ALog,
    /// Bias of the decay's time step, starts at 1.
    DtBias,
    /// Depthwise causal convolution.
    Conv,
    /// Matrix of a linear layer, or of the experts' linear layers in one.
    Projection(Projection),
    /// Weight of the vision tower.
    Vision(VisionPart),
    /// Bias of the vision tower.
    VisionBias(VisionPart),
}

/// Which linear layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Projection {
    /// Query and gate of full attention, head by head.
    Q,
    /// Key.
    K,
    /// Value.
    V,
    /// Output of full attention, into the residual stream.
    O,
    /// Query, key and value of the gated delta net.
    InQkv,
    /// Gate of its output norm.
    InZ,
    /// Its write strength.
    InB,
    /// Its decay.
    InA,
    /// Its output, into the residual stream.
    Out,
    /// MLP gate.
    Gate,
    /// MLP up.
    Up,
    /// MLP down, into the residual stream.
    Down,
    /// MTP's joint of embedding and hidden state, `[h, 2h]`, embedding first.
    MtpFc,
    /// Scores of all experts, `[E, h]`.
    Router,
    /// Gate and up of every routed expert in one tensor, `[E, 2I, h]`, gate rows first.
    ExpertsGateUp,
    /// Down of every routed expert in one tensor, `[E, h, I]`.
    ExpertsDown,
    /// Gate of one routed expert.
    ExpertGate,
    /// Up of one routed expert.
    ExpertUp,
    /// Down of one routed expert.
    ExpertDown,
    /// Gate of the shared expert's MLP.
    SharedGate,
    /// Up of the shared expert.
    SharedUp,
    /// Down of the shared expert.
    SharedDown,
    /// How much of the shared expert a token takes, `[1, h]`.
    SharedExpertGate,
}

/// Which part of the vision tower.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum VisionPart {
    /// Patches into vectors: `[h, colours, frames, height, width]`.
    PatchEmbed,
    /// Learned position table.
    Positions,
    /// `LayerNorm`: the gain is `w`.
    Norm,
    /// Query, key and value, one after the other.
    Qkv,
    /// Output of attention.
    Out,
    /// First layer of a block's MLP.
    Fc1,
    /// Second layer of it.
    Fc2,
    /// First layer of the merger, which takes a square of patches.
    MergerFc1,
    /// Second layer of it, into the text model's width.
    MergerFc2,
}

impl Projection {
    /// Whether the output is added to the residual stream.
    pub fn is_residual_output(self) -> bool {
        matches!(
            self,
            Self::O
                | Self::Out
                | Self::Down
                | Self::ExpertsDown
                | Self::ExpertDown
                | Self::SharedDown
        )
    }
}

impl Role {
    /// A word or two for tables.
    pub fn label(self) -> &'static str {
        match self {
            Self::Embedding => "embedding",
            Self::Head => "head",
            Self::Norm => "norm (1 + w)",
            Self::GdnNorm => "norm (w)",
            Self::ALog => "decay log",
            Self::DtBias => "decay bias",
            Self::Conv => "causal conv",
            Self::Projection(projection) => match projection {
                Projection::Q => "query and gate",
                Projection::K => "key",
                Projection::V => "value",
                Projection::O => "attention out",
                Projection::InQkv => "query, key, value",
                Projection::InZ => "output gate",
                Projection::InB => "write strength",
                Projection::InA => "decay",
                Projection::Out => "delta net out",
                Projection::Gate => "mlp gate",
                Projection::Up => "mlp up",
                Projection::Down => "mlp down",
                Projection::MtpFc => "mtp joint",
                Projection::Router => "router",
                Projection::ExpertsGateUp => "experts gate, up",
                Projection::ExpertsDown => "experts down",
                Projection::ExpertGate => "expert gate",
                Projection::ExpertUp => "expert up",
                Projection::ExpertDown => "expert down",
                Projection::SharedGate => "shared gate",
                Projection::SharedUp => "shared up",
                Projection::SharedDown => "shared down",
                Projection::SharedExpertGate => "shared share",
            },
            Self::Vision(part) => match part {
                VisionPart::PatchEmbed => "patches",
                VisionPart::Positions => "positions",
                VisionPart::Norm => "layer norm",
                VisionPart::Qkv => "vision qkv",
                VisionPart::Out => "vision out",
                VisionPart::Fc1 => "vision fc1",
                VisionPart::Fc2 => "vision fc2",
                VisionPart::MergerFc1 => "merger fc1",
                VisionPart::MergerFc2 => "merger fc2",
            },
            Self::VisionBias(_) => "bias",
        }
    }
}
