//! Writes scalars as TensorBoard event files under `tb/`, under Megatron's names where it has one.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use crate::event::{DepthStep, StepRecord, layout, tensorboard};

/// The event file of one trainer process.
#[derive(Debug)]
pub(super) struct EventFile {
    file: File,
}

impl EventFile {
    /// Creates the file of segment `segment`, whose first update is `step + 1`. TensorBoard drops what earlier files say from there on.
    pub(super) fn create(run: &Path, host: &str, segment: u32, step: u64) -> io::Result<Self> {
        let folder = run.join(layout::TENSORBOARD);
        std::fs::create_dir_all(&folder)?;
        let now = wall_time();
        let name = format!(
            "events.out.tfevents.{:010}.{host}.{}.{segment}",
            now as u64,
            std::process::id()
        );
        let mut file = File::create(folder.join(name))?;
        file.write_all(&tensorboard::encode_file_version(now))?;
        if segment > 0 {
            file.write_all(&tensorboard::encode_session_start(now, step as i64 + 1))?;
        }
        Ok(Self { file })
    }

    /// Writes a step's numbers; `cumulative` is each depth's acceptance in percent over all steps of the run.
    pub(super) fn step(&mut self, record: &StepRecord, cumulative: &[f64]) -> io::Result<()> {
        let mut scalars = vec![
            ("lm loss".to_owned(), record.loss),
            ("learning-rate".to_owned(), record.lr),
            ("grad-norm".to_owned(), record.grad_norm),
            ("iteration-time".to_owned(), record.step_seconds),
            (
                "throughput/tokens_per_sec".to_owned(),
                record.tokens_per_second,
            ),
            ("throughput/mfu".to_owned(), record.mfu),
            ("mem-allocated-bytes".to_owned(), record.allocated as f64),
            ("mem-max-allocated-bytes".to_owned(), record.peak as f64),
            ("memory/rss-bytes".to_owned(), record.rss as f64),
        ];
        for (k, (depth, cumulative)) in record.mtp.iter().zip(cumulative).enumerate() {
            let k = k + 1;
            scalars.push((format!("mtp_{k} loss"), depth.loss));
            scalars.push((
                format!("mtp_{k}_acceptance_rate"),
                depth.acceptance_percent(),
            ));
            scalars.push((format!("mtp_{k}_cumulative_acceptance_rate"), *cumulative));
        }
        self.write(record.step, &scalars)
    }

    /// Writes an evaluation's numbers.
    pub(super) fn eval(&mut self, step: u64, loss: f64, mtp: &[DepthStep]) -> io::Result<()> {
        let mut scalars = vec![
            ("lm loss validation".to_owned(), loss),
            // Megatron caps the exponent at 20.
            ("lm loss validation ppl".to_owned(), loss.min(20.0).exp()),
        ];
        for (k, depth) in mtp.iter().enumerate() {
            let k = k + 1;
            scalars.push((format!("mtp_{k} loss validation"), depth.loss));
            scalars.push((
                format!("mtp_{k}_acceptance_rate validation"),
                depth.acceptance_percent(),
            ));
        }
        self.write(step, &scalars)
    }

    fn write(&mut self, step: u64, scalars: &[(String, f64)]) -> io::Result<()> {
        let scalars: Vec<(&str, f32)> = scalars
            .iter()
            .map(|(tag, value)| (tag.as_str(), *value as f32))
            .collect();
        let frame = tensorboard::encode_scalars(wall_time(), step as i64, &scalars);
        self.file.write_all(&frame)
    }
}

/// Seconds since the Unix epoch.
fn wall_time() -> f64 {
    super::journal::now_ms() as f64 / 1000.0
}
