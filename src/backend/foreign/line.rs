//! What a line of a log says.

use super::Iteration;

/// What a line of a log says, as far as it concerns a run. Times are milliseconds since the Unix epoch as if the clock showed UTC.
#[derive(Debug, Clone, PartialEq)]
pub enum Line {
    /// Numbers of a training iteration.
    Iteration(Box<Iteration>),
    /// `Step Time`: belongs to the iteration line with the nearest elapsed time, which may come from another file.
    StepTime {
        /// Seconds of a step.
        seconds: f64,
        /// Model TFLOP/s per GPU.
        tflops: f64,
    },
    /// Measured memory of a rank.
    Memory(Memory),
    /// A number of parameters or bytes that the trainer computed before it ran.
    Theory(Theory, f64),
    /// Losses on held-out data.
    Validation {
        /// After this many iterations.
        step: u64,
        /// On which data.
        split: Split,
        /// Key and mean loss, in the order of the line.
        losses: Vec<(String, f64)>,
        /// When, if the source says.
        time_ms: Option<i64>,
    },
    /// A checkpoint is being written.
    Saving {
        /// After this many iterations.
        step: u64,
        /// Its base folder.
        path: String,
    },
    /// A checkpoint is complete.
    Saved {
        /// After this many iterations.
        step: u64,
        /// Its base folder.
        path: String,
    },
    /// A checkpoint was read.
    Loaded {
        /// Iterations it has behind it, if the line says.
        step: Option<u64>,
        /// Where it lies.
        path: String,
    },
    /// There was no checkpoint to read: the run trains from random weights.
    NoCheckpoint,
    /// A stage of the job's life was reached.
    Stage {
        /// Which.
        stage: Stage,
        /// When.
        time_ms: i64,
    },
    /// `Starting training loop at iteration N`.
    TrainingLoop {
        /// Iterations done.
        step: u64,
    },
    /// The trainer announces its end.
    Exiting {
        /// After this many iterations, if the line says.
        step: Option<u64>,
        /// The line.
        why: String,
    },
    /// A key of the configuration that is printed at the start.
    SequenceLength(u64),
    /// Scalars in all and trainable ones, as the PEFT block says.
    Trainable(u64),
    /// Mean seconds of a part of the step.
    Timer {
        /// Megatron's name.
        name: String,
        /// Of the slowest rank.
        seconds: f64,
    },
    /// An exception reached the top of a rank.
    Error {
        /// Which rank, if the line says.
        rank: Option<u32>,
        /// The exception, without its traceback.
        message: String,
    },
    /// The scheduler ends the job or a step of it.
    Cancelled {
        /// Why.
        cause: Cause,
        /// When, by the node's clock.
        time_ms: Option<i64>,
        /// The line.
        message: String,
    },
    /// The launcher or the scheduler says that the job or a task of it ended badly.
    Killed {
        /// The line.
        message: String,
    },
}

/// Measured memory of a rank, in bytes; 0 where the line does not say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Memory {
    /// The rank.
    pub rank: u32,
    /// After this many iterations.
    pub step: u64,
    /// In tensors now.
    pub allocated: u64,
    /// In tensors at most.
    pub max_allocated: u64,
    /// Held by the allocator now.
    pub reserved: u64,
    /// Held by the allocator at most.
    pub max_reserved: u64,
    /// Times the allocator gave up its cache and asked again.
    pub retries: u64,
}

/// Why a scheduler ends a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// Someone asked for it.
    Asked,
    /// Its time was over.
    TimeLimit,
    /// Another job has its place.
    Preempted,
    /// It waits for its next start.
    Requeued,
    /// A node was lost.
    NodeFailure,
}

/// On which data a loss was measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Split {
    /// Validation during training.
    Validation,
    /// Validation data after training.
    Final,
    /// Test data after training.
    Test,
}

/// Stages that the trainer prints with a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Processes know each other.
    Initialized,
    /// There is a tokenizer.
    Tokenizer,
    /// Model and optimizer are there.
    Built,
    /// Data is there.
    Data,
    /// The last iteration is done.
    Done,
}

/// What the trainer computes before it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Theory {
    /// Parameters in all.
    Parameters,
    /// Bytes of weights and optimizer on the most loaded device.
    WeightAndOptimizer,
    /// Bytes of activations there.
    Activations,
    /// Both.
    Total,
}
