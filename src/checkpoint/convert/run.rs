//! A planned conversion, done.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use rayon::prelude::*;

use super::gather::gather;
use super::journal::{Identity, JOURNAL, Journal};
use super::place::{check_inputs, claim, is_taken, normal, partial_path, put_in_place};
use super::{Conversion, Files};
use crate::checkpoint::CheckpointError;
use crate::checkpoint::files::{expect_open, failed, sync_folder};

/// How a conversion treats what is there.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The command, for people: what an interrupted conversion is told by.
    pub command: String,
    /// Whether an existing output is replaced, once the new one is complete.
    pub overwrite: bool,
    /// Whether an interrupted conversion to the same place is thrown away.
    pub restart: bool,
}

/// How far a conversion is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Progress {
    /// Bytes of the output that are in place.
    pub done: u64,
    /// Bytes of the output.
    pub total: u64,
    /// Of those in place, the ones that an earlier, interrupted conversion left.
    pub resumed: u64,
    /// Seconds since this one began.
    pub seconds: f64,
}

/// What a conversion did.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// The output.
    pub path: PathBuf,
    /// Bytes of its files with tensors.
    pub bytes: u64,
    /// Bytes that were there already.
    pub resumed: u64,
    /// Files with tensors.
    pub files: usize,
    /// Tensors.
    pub tensors: usize,
    /// Tensors with values that are NaN or infinite, and how many.
    pub not_finite: Vec<(String, u64)>,
    /// Seconds it took.
    pub seconds: f64,
}

/// Bytes of a band: what a thread holds at a time.
const BAND: usize = 8 << 20;

/// A band of rows of an item.
struct Unit {
    item: usize,
    /// Rows of the tensor.
    start: usize,
    end: usize,
}

impl Conversion {
    /// Does it. `progress` is told after every band, from any thread; once `cancel` is set the conversion ends with
    /// [`CheckpointError::Cancelled`] and can be continued.
    ///
    /// # Errors
    /// When the output exists, when there is too little space, when an interrupted conversion of another kind is in the way, and when a file
    /// cannot be read or written. What is done stays, and is gone on with next time.
    pub fn run(
        &self,
        output: &Path,
        options: &Options,
        progress: &(dyn Fn(Progress) + Sync),
        cancel: &AtomicBool,
    ) -> Result<Report, CheckpointError> {
        let begun = Instant::now();
        let output = normal(output)?;
        if is_taken(&output) && !options.overwrite {
            return Err(CheckpointError::Exists { path: output });
        }
        check_inputs(&output, &self.inputs)?;
        let partial = partial_path(&output);
        let _lock = claim(&partial, options.restart)?;
        self.check_space(&partial)?;
        let folder = partial.join(&self.planned.folder);
        fs::create_dir_all(&folder).map_err(failed("create", &folder))?;

        let identity = Identity {
            command: options.command.clone(),
            fingerprint: self.fingerprint()?,
        };
        let journal_path = partial.join(JOURNAL);
        let (journal, done) = Journal::open(&journal_path, &identity)?;
        let outputs = self.create(&partial)?;
        let inputs = Files::open(&self.inputs)?;
        let units = self.units();
        let counter = Counter {
            done: AtomicU64::new(0),
            resumed: AtomicU64::new(0),
            total: units.iter().map(|unit| self.unit_bytes(unit) as u64).sum(),
            begun,
        };
        let not_finite: Vec<AtomicU64> = self.outputs.iter().map(|_| AtomicU64::new(0)).collect();
        let sums: Vec<u32> = units
            .par_iter()
            .enumerate()
            .with_max_len(1)
            .map_init(Vec::new, |buffer: &mut Vec<u8>, (number, unit)| {
                if cancel.load(Ordering::Relaxed) {
                    return Err(CheckpointError::Cancelled);
                }
                let bytes = self.unit_bytes(unit);
                buffer.resize(bytes, 0);
                let sum = match done.get(&number) {
                    Some(&sum) if self.is_written(unit, &outputs, buffer, sum)? => {
                        counter.resumed.fetch_add(bytes as u64, Ordering::Relaxed);
                        sum
                    }
                    _ => {
                        let sum = self.write(unit, &inputs, &outputs, buffer)?;
                        journal.add(number, sum, bytes)?;
                        sum
                    }
                };
                let tensor = self.planned.items[unit.item].tensor;
                let count = super::not_finite(self.outputs[tensor].dtype, buffer);
                not_finite[tensor].fetch_add(count, Ordering::Relaxed);
                progress(counter.add(bytes as u64));
                Ok(sum)
            })
            .collect::<Result<_, CheckpointError>>()
            .inspect_err(|_| {
                // The first error is the one to report.
                let _ = journal.flush();
            })?;
        journal.flush()?;
        self.finish(&partial, &outputs, &units, &sums)?;
        fs::remove_file(&journal_path).map_err(failed("remove", &journal_path))?;
        put_in_place(&partial, &output)?;
        Ok(Report {
            path: output,
            bytes: self.bytes(),
            resumed: counter.resumed.into_inner(),
            files: self.planned.files.len(),
            tensors: self.outputs.len(),
            not_finite: self
                .outputs
                .iter()
                .zip(not_finite)
                .map(|(output, count)| (output.name.clone(), count.into_inner()))
                .filter(|(_, count)| *count > 0)
                .collect(),
            seconds: begun.elapsed().as_secs_f64(),
        })
    }

    /// Bands of all items, in the order of the files.
    fn units(&self) -> Vec<Unit> {
        let mut units = Vec::with_capacity(self.planned.items.len());
        for (index, item) in self.planned.items.iter().enumerate() {
            let rows = (BAND / self.pitch(item.tensor).max(1)).max(1);
            let mut start = item.rows.start;
            while start < item.rows.end {
                let end = item.rows.end.min(start + rows);
                units.push(Unit {
                    item: index,
                    start,
                    end,
                });
                start = end;
            }
        }
        units
    }

    /// Bytes of a row of an output.
    fn pitch(&self, tensor: usize) -> usize {
        let output = &self.outputs[tensor];
        output.shape.matrix().1 * output.dtype.size() as usize
    }

    fn unit_bytes(&self, unit: &Unit) -> usize {
        (unit.end - unit.start) * self.pitch(self.planned.items[unit.item].tensor)
    }

    /// The file and offset of a band.
    fn place(&self, unit: &Unit) -> (usize, u64) {
        let item = &self.planned.items[unit.item];
        let before = (unit.start - item.rows.start) * self.pitch(item.tensor);
        (item.file, item.offset + before as u64)
    }

    /// Makes a band and puts it in place; the sum of its bytes.
    fn write(
        &self,
        unit: &Unit,
        inputs: &Files,
        outputs: &Outputs,
        buffer: &mut [u8],
    ) -> Result<u32, CheckpointError> {
        let output = &self.outputs[self.planned.items[unit.item].tensor];
        gather(
            inputs,
            &self.tensors,
            &output.moves,
            &(unit.start..unit.end),
            (output.shape.matrix().1, output.dtype),
            buffer,
        )?;
        let (file, offset) = self.place(unit);
        outputs.write(file, offset, buffer)?;
        Ok(crc32fast::hash(buffer))
    }

    /// Whether a band that the journal names is in its place.
    fn is_written(
        &self,
        unit: &Unit,
        outputs: &Outputs,
        buffer: &mut [u8],
        sum: u32,
    ) -> Result<bool, CheckpointError> {
        let (file, offset) = self.place(unit);
        outputs.files[file]
            .read_exact_at(buffer, offset)
            .map_err(failed("read back", &outputs.paths[file]))?;
        Ok(crc32fast::hash(buffer) == sum)
    }

    /// Opens the output's files at their full size; a disk that cannot hold them says so here.
    fn create(&self, partial: &Path) -> Result<Outputs, CheckpointError> {
        let mut outputs = Outputs::default();
        expect_open(self.planned.files.len() + self.inputs.len());
        for file in &self.planned.files {
            let path = partial.join(&self.planned.folder).join(&file.name);
            let opened = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .open(&path)
                .map_err(failed("write", &path))?;
            reserve(&opened, file.bytes).map_err(failed("reserve space for", &path))?;
            outputs.files.push(opened);
            outputs.paths.push(path);
        }
        Ok(outputs)
    }

    /// Compares the space that is free with what the output still needs.
    fn check_space(&self, partial: &Path) -> Result<(), CheckpointError> {
        let Ok(stat) = rustix::fs::statvfs(partial) else {
            return Ok(());
        };
        let free = stat.f_bavail * stat.f_frsize;
        let have: u64 = self
            .planned
            .files
            .iter()
            .filter_map(|file| {
                let path = partial.join(&self.planned.folder).join(&file.name);
                Some(fs::metadata(path).ok()?.len())
            })
            .sum();
        let need = self.bytes().saturating_sub(have);
        if need > free {
            return Err(CheckpointError::Space {
                path: partial.to_owned(),
                need,
                free,
            });
        }
        Ok(())
    }

    /// Writes what is not tensors, and waits until all is on the disk.
    fn finish(
        &self,
        partial: &Path,
        outputs: &Outputs,
        units: &[Unit],
        sums: &[u32],
    ) -> Result<(), CheckpointError> {
        for (file, offset, bytes) in &self.planned.fixed {
            outputs.write(*file, *offset, bytes)?;
        }
        if let Some(plan) = &self.planned.torch_dist {
            let sums = self.item_sums(units, sums);
            for (item, sum) in plan.items.iter().zip(sums) {
                let tail = plan.tail(item, sum);
                outputs.write(item.file, item.data_offset + item.bytes, &tail)?;
            }
            plan.finish(&partial.join(&self.planned.folder), &outputs.files)?;
        }
        (&outputs.files, &outputs.paths)
            .into_par_iter()
            .try_for_each(|(file, path)| file.sync_all().map_err(failed("write", path)))?;
        for (name, content) in &self.planned.texts {
            let path = below(partial, name)?;
            File::create(&path)
                .and_then(|mut file| {
                    file.write_all(content)?;
                    file.sync_all()
                })
                .map_err(failed("write", &path))?;
        }
        for (from, name) in &self.planned.copies {
            let path = below(partial, name)?;
            fs::copy(from, &path).map_err(failed("copy", from))?;
        }
        sync_folder(partial)
    }

    /// The sum of each item, out of those of its bands.
    fn item_sums(&self, units: &[Unit], sums: &[u32]) -> Vec<u32> {
        let mut items = vec![crc32fast::Hasher::new(); self.planned.items.len()];
        for (unit, &sum) in units.iter().zip(sums) {
            let bytes = self.unit_bytes(unit) as u64;
            let band = crc32fast::Hasher::new_with_initial_len(sum, bytes);
            items[unit.item].combine(&band);
        }
        items.into_iter().map(crc32fast::Hasher::finalize).collect()
    }

    /// What decides the output's bytes: the input's files as they are now, and every place.
    fn fingerprint(&self) -> Result<String, CheckpointError> {
        let mut hash = blake3::Hasher::new();
        hash.update(env!("CARGO_PKG_VERSION").as_bytes());
        for path in &self.inputs {
            let metadata = fs::metadata(path).map_err(failed("read", path))?;
            let text = format!(
                "{} {} {:?}\n",
                path.display(),
                metadata.len(),
                metadata.modified().ok()
            );
            hash.update(text.as_bytes());
        }
        for output in &self.outputs {
            let text = format!("{} {:?} {:?}\n", output.name, output.shape, output.dtype);
            hash.update(text.as_bytes());
            for part in &output.moves {
                let numbers = [
                    part.input as usize,
                    part.from.0,
                    part.from.1,
                    part.to.0,
                    part.to.1,
                    part.size.0,
                    part.size.1,
                ];
                for number in numbers {
                    hash.update(&number.to_le_bytes());
                }
            }
        }
        for item in &self.planned.items {
            let numbers = [item.tensor, item.rows.start, item.rows.end, item.file];
            for number in numbers {
                hash.update(&number.to_le_bytes());
            }
            hash.update(&item.offset.to_le_bytes());
        }
        for file in &self.planned.files {
            hash.update(file.name.as_bytes());
        }
        Ok(hash.finalize().to_hex().to_string())
    }
}

/// The output's files, open.
#[derive(Default)]
struct Outputs {
    files: Vec<File>,
    paths: Vec<PathBuf>,
}

impl Outputs {
    fn write(&self, file: usize, offset: u64, bytes: &[u8]) -> Result<(), CheckpointError> {
        self.files[file]
            .write_all_at(bytes, offset)
            .map_err(failed("write", &self.paths[file]))
    }
}

/// Counts bytes from several threads.
struct Counter {
    done: AtomicU64,
    resumed: AtomicU64,
    total: u64,
    begun: Instant,
}

impl Counter {
    fn add(&self, bytes: u64) -> Progress {
        Progress {
            done: self.done.fetch_add(bytes, Ordering::Relaxed) + bytes,
            total: self.total,
            resumed: self.resumed.load(Ordering::Relaxed),
            seconds: self.begun.elapsed().as_secs_f64(),
        }
    }
}

/// Gives a file its size, with blocks behind it where the file system can.
fn reserve(file: &File, bytes: u64) -> std::io::Result<()> {
    use rustix::fs::{FallocateFlags, fallocate};
    use rustix::io::Errno;
    if bytes > 0 {
        match fallocate(file, FallocateFlags::empty(), 0, bytes) {
            Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {}
            Err(error) => return Err(error.into()),
        }
    }
    file.set_len(bytes)
}

/// A path below a folder, whose own folders are made.
fn below(folder: &Path, name: &str) -> Result<PathBuf, CheckpointError> {
    let path = folder.join(name);
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(failed("create", parent))?;
    }
    Ok(path)
}
