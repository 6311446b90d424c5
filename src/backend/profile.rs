//! The user's clusters: what a site asks of a job, by name.
//!
//! A file of TOML tables, one a profile. Every problem of the file is found at once, with its place.

mod check;
mod key;

use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

use crate::base::{Diagnostic, LineColumn, Place, Severity};
pub use key::{KEYS, Key};

/// How the processes of a job are started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Style {
    /// `srun` starts one task a GPU; ranks come from Slurm.
    #[default]
    Srun,
    /// `srun` starts one task a node, and torchrun in it a process a GPU.
    Torchrun,
}

/// What a site asks of a job. Absent values are left to the site.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a key of the file")]
pub struct Profile {
    /// Its name.
    pub name: String,
    /// Slurm partition.
    pub partition: Option<String>,
    /// Slurm account.
    pub account: Option<String>,
    /// Slurm quality of service.
    pub qos: Option<String>,
    /// Features that nodes must have.
    pub constraint: Option<String>,
    /// Slurm reservation.
    pub reservation: Option<String>,
    /// Container image, for the Pyxis plugin of `srun`.
    pub container: Option<String>,
    /// Mounts of the container, `HOST[:CONTAINER[:FLAGS]]`.
    pub mounts: Vec<String>,
    /// Environment modules to load.
    pub modules: Vec<String>,
    /// Names of variables that the job needs, secrets among them; their values are the submitting shell's.
    pub environment: Vec<String>,
    /// GPUs of a node.
    pub gpus_per_node: usize,
    /// Whether Slurm is asked for GPUs; not where it does not manage them.
    pub request_gpus: bool,
    /// Time limit, `[DAYS-]HOURS:MINUTES:SECONDS`.
    pub time_limit: String,
    /// Seconds before the time limit at which a last checkpoint is asked for.
    pub checkpoint_seconds: u64,
    /// Whether a job that ended at its time limit queues again while it makes progress.
    pub go_on: bool,
    /// Whether a job whose node failed queues again.
    pub requeue: bool,
    /// Whether nodes are not shared.
    pub exclusive: bool,
    /// How processes are started.
    pub style: Style,
    /// Kind of MPI that `srun` sets up.
    pub mpi: Option<String>,
    /// Megatron-Bridge's folder, in the container if there is one.
    pub bridge: Option<PathBuf>,
    /// Python and what stands before it.
    pub python: Vec<String>,
    /// Further options of `sbatch`, each a word such as `--comment=x`.
    pub sbatch: Vec<String>,
    /// Further options of `srun`.
    pub srun: Vec<String>,
}

impl Profile {
    /// A profile that asks for nothing special.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            partition: None,
            account: None,
            qos: None,
            constraint: None,
            reservation: None,
            container: None,
            mounts: Vec::new(),
            modules: Vec::new(),
            environment: Vec::new(),
            gpus_per_node: 8,
            request_gpus: true,
            time_limit: "04:00:00".to_owned(),
            checkpoint_seconds: 300,
            go_on: false,
            requeue: true,
            exclusive: false,
            style: Style::Srun,
            mpi: None,
            bridge: None,
            python: vec!["python".to_owned()],
            sbatch: Vec::new(),
            srun: Vec::new(),
        }
    }
}

impl Profile {
    /// The same site without its container, which torchrun on this machine does not start: whoever wants it starts this program in it.
    #[must_use]
    pub fn outside(&self) -> Self {
        Self {
            container: None,
            mounts: Vec::new(),
            ..self.clone()
        }
    }
}

/// The file of profiles in the user's configuration: `$XDG_CONFIG_HOME/trestle/profiles.toml`.
pub fn path() -> Option<PathBuf> {
    let config = std::env::var_os("XDG_CONFIG_HOME")
        .map(PathBuf::from)
        .filter(|path| path.is_absolute())
        .or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".config")))?;
    Some(config.join("trestle/profiles.toml"))
}

/// Why there is no profile to launch with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Unusable {
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
}

impl Unusable {
    fn new(message: String, hint: String) -> Self {
        let hint = Some(hint).filter(|hint| !hint.is_empty());
        Self { message, hint }
    }
}

/// The user's file as it was read.
#[derive(Debug, Clone, PartialEq)]
pub struct Profiles {
    /// The file.
    pub path: PathBuf,
    /// Those without errors, by name.
    pub valid: Vec<Profile>,
    /// What is wrong with others.
    pub problems: Vec<Diagnostic>,
}

/// Reads the user's file.
pub fn load() -> Result<Profiles, Unusable> {
    let path = path().ok_or_else(|| {
        Unusable::new(
            "neither XDG_CONFIG_HOME nor HOME is set".to_owned(),
            String::new(),
        )
    })?;
    let text = std::fs::read_to_string(&path).map_err(|error| {
        Unusable::new(
            format!("cannot read {}: {error}", path.display()),
            "a profile is a table such as `[h100]` with `bridge = \"/path/to/Megatron-Bridge\"` and `gpus_per_node = 8`"
                .to_owned(),
        )
    })?;
    let (valid, problems) = read(&path, &text);
    Ok(Profiles {
        path,
        valid,
        problems,
    })
}

impl Profiles {
    /// The profile called `wanted`, or the only one of the file.
    pub fn choose(&self, wanted: Option<&str>) -> Result<&Profile, Unusable> {
        let names: Vec<&str> = self.valid.iter().map(|p| p.name.as_str()).collect();
        let names = names.join(", ");
        let path = self.path.display();
        match (wanted, self.valid.as_slice()) {
            (Some(name), profiles) => profiles.iter().find(|p| p.name == name).ok_or_else(|| {
                Unusable::new(
                    format!("no valid profile `{name}` in {path}"),
                    format!("valid ones: {names}"),
                )
            }),
            (None, [only]) if self.problems.is_empty() => Ok(only),
            (None, []) => Err(Unusable::new(
                format!("{path} has no valid profile"),
                String::new(),
            )),
            (None, _) => Err(Unusable::new(
                format!("{path} has several profiles, or some that are not valid"),
                format!("--profile NAME, one of: {names}"),
            )),
        }
    }
}

/// Reads the profiles of a text. Those without errors are returned beside the problems of all.
pub fn read(path: &Path, text: &str) -> (Vec<Profile>, Vec<Diagnostic>) {
    let (table, errors) = DeTable::parse_recoverable(text);
    let mut reader = Reader {
        path,
        text,
        problems: Vec::new(),
    };
    for error in &errors {
        let message = error.message().trim().replace('\n', ", ");
        let span = error.span().unwrap_or(0..0);
        reader.problem("P001", format!("not TOML: {message}"), span, None);
    }
    let mut profiles = Vec::new();
    if errors.is_empty() {
        for (name, value) in table.get_ref() {
            let DeValue::Table(values) = value.get_ref() else {
                reader.problem(
                    "P002",
                    format!(
                        "`{}` stands outside of a profile; a profile is a table such as [h100]",
                        name.get_ref()
                    ),
                    name.span(),
                    None,
                );
                continue;
            };
            let before = reader.problems.len();
            let profile = reader.profile(name.get_ref(), values);
            if reader.problems.len() == before {
                profiles.push(profile);
            }
        }
    }
    (profiles, reader.problems)
}

struct Reader<'a> {
    path: &'a Path,
    text: &'a str,
    problems: Vec<Diagnostic>,
}

impl Reader<'_> {
    fn problem(
        &mut self,
        code: &'static str,
        message: String,
        span: std::ops::Range<usize>,
        hint: Option<String>,
    ) {
        self.problems.push(Diagnostic {
            severity: Severity::Error,
            code,
            message,
            place: Place::File {
                path: self.path.to_owned(),
                at: LineColumn::of(self.text, span.start),
                span,
            },
            key: None,
            hint,
            nearest: Vec::new(),
            fix: None,
        });
    }

    fn profile(&mut self, name: &str, values: &DeTable<'_>) -> Profile {
        let mut profile = Profile::new(name);
        for (key, value) in values {
            let Some(known) = KEYS.iter().find(|k| k.name == key.get_ref().as_ref()) else {
                let names: Vec<&str> = KEYS.iter().map(|k| k.name).collect();
                self.problem(
                    "P003",
                    format!("a profile has no key `{}`", key.get_ref()),
                    key.span(),
                    Some(format!("keys: {}", names.join(", "))),
                );
                continue;
            };
            if let Err(message) = check::set(&mut profile, known, value.get_ref()) {
                self.problem("P004", message, value.span(), Some(known.doc.to_owned()));
            }
        }
        profile
    }
}
