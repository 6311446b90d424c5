//! Shell scripts that run a job.
//!
//! Pure: a job and a profile in, text out. Nothing is assumed to exist, every value is quoted, and secrets occur by the name of their
//! variable only. `shellcheck` has nothing to say about any of them.

mod body;
mod header;

use std::fmt::Write;

use super::profile::Style;
use super::shell::word;
use super::{BackendError, Job, Profile};

/// Written by a script into the run directory when it ends: its exit code, the job's number, how often it was queued again.
pub const STATUS: &str = "exit-status";
/// Name of the script in the run directory.
pub const SCRIPT: &str = "launch.sh";

/// The script for `sbatch`.
pub fn slurm(job: &Job, profile: &Profile) -> Result<String, BackendError> {
    let (nodes, gpus) = job
        .nodes(profile.gpus_per_node)
        .ok_or(BackendError::UnevenNodes {
            gpus: job.gpus(),
            gpus_per_node: profile.gpus_per_node,
        })?;
    let bridge = bridge(profile)?;
    let tasks = match profile.style {
        Style::Srun => gpus,
        Style::Torchrun => 1,
    };
    let mut text = header::slurm(job, profile, nodes, gpus, tasks);
    text += &body::beginning(job, profile, bridge);
    text += "\n# The first node is where the processes meet.\n";
    text += "mapfile -t hosts < <(scontrol show hostnames \"${SLURM_JOB_NODELIST:?not in a Slurm job}\")\n";
    text += "export MASTER_ADDR=\"${hosts[0]:?no host}\"\n";
    text += "export MASTER_PORT=\"$((15000 + SLURM_JOB_ID % 10000))\"\n\n";
    let python = match profile.style {
        Style::Srun => profile.python.as_slice(),
        // torchrun starts Python itself.
        Style::Torchrun => &[],
    };
    text += &body::command(job, python);
    text += &body::signals(job, profile);
    text += &srun(profile, bridge, nodes, gpus, tasks);
    text += &body::ending(job, profile);
    Ok(text)
}

/// The script for one machine: `torchrun` with a process a GPU, outside of the profile's container.
pub fn torchrun(job: &Job, profile: &Profile) -> Result<String, BackendError> {
    let profile = &profile.outside();
    let bridge = bridge(profile)?;
    let mut text = header::local(job);
    text += &body::beginning(job, profile, bridge);
    let _ = write!(text, "\n{}", body::command(job, &[]));
    let launcher = words(
        "launch",
        &[
            profile.python.clone(),
            ["-m", "torch.distributed.run", "--standalone", "--nnodes=1"]
                .map(str::to_owned)
                .to_vec(),
            vec![format!("--nproc-per-node={}", job.gpus())],
        ]
        .concat(),
    );
    text += &launcher;
    text += "\n\"${launch[@]}\" \"${command[@]}\" &\nstep=$!\n";
    text += "trap 'kill -TERM \"$step\" 2>/dev/null || true' TERM INT\n";
    text += WAIT;
    text += "exit \"$status\"\n";
    Ok(text)
}

/// Waits for the process `step` and puts its exit code into `status`.
const WAIT: &str = r#"
# A trapped signal ends `wait` early, with 128 and the signal's number: wait again while there is something to wait for.
status=0
wait "$step" || status=$?
while kill -0 "$step" 2>/dev/null; do
    status=0
    wait "$step" || status=$?
done
if [ "$status" -gt 128 ]; then
    last=0
    wait "$step" 2>/dev/null || last=$?
    [ "$last" -eq 127 ] || status=$last
fi
"#;

fn bridge(profile: &Profile) -> Result<&str, BackendError> {
    profile
        .bridge
        .as_ref()
        .and_then(|path| path.to_str())
        .ok_or_else(|| BackendError::ProfileLacks {
            profile: profile.name.clone(),
            key: "bridge",
        })
}

/// A bash array, a word a line.
fn words(name: &str, words: &[String]) -> String {
    let mut text = format!("{name}=(\n");
    for each in words {
        let _ = writeln!(text, "    {}", word(each));
    }
    text + ")\n"
}

fn srun(profile: &Profile, bridge: &str, nodes: usize, gpus: usize, tasks: usize) -> String {
    let mut options = vec![
        "srun".to_owned(),
        "--kill-on-bad-exit=1".to_owned(),
        format!("--nodes={nodes}"),
        format!("--ntasks-per-node={tasks}"),
        "--label".to_owned(),
    ];
    options.extend(profile.mpi.iter().map(|mpi| format!("--mpi={mpi}")));
    if let Some(image) = &profile.container {
        options.push(format!("--container-image={image}"));
        options.push(format!("--container-workdir={bridge}"));
        if !profile.mounts.is_empty() {
            options.push(format!("--container-mounts={}", profile.mounts.join(",")));
        }
        if !profile.environment.is_empty() {
            options.push(format!("--container-env={}", profile.environment.join(",")));
        }
    }
    options.extend(profile.srun.iter().cloned());
    let mut text = format!("\n{}", words("launch", &options));
    match profile.style {
        Style::Srun => {
            text += "\n\"${launch[@]}\" \"${command[@]}\" &\nstep=$!\n";
        }
        Style::Torchrun => {
            text += &words(
                "torchrun",
                &[
                    profile.python.clone(),
                    ["-m", "torch.distributed.run"].map(str::to_owned).to_vec(),
                    vec![
                        format!("--nnodes={nodes}"),
                        format!("--nproc-per-node={gpus}"),
                    ],
                ]
                .concat(),
            );
            text += "# The node's number is known only in its task.\n";
            // Its options stand before the program, so what only the task knows reaches torchrun by its environment.
            text += "export PET_MASTER_ADDR=\"$MASTER_ADDR\" PET_MASTER_PORT=\"$MASTER_PORT\"\n";
            text += "task='PET_NODE_RANK=$SLURM_NODEID exec \"$@\"'\n";
            text += "\n\"${launch[@]}\" bash -c \"$task\" task \"${torchrun[@]}\" \"${command[@]}\" &\nstep=$!\n";
        }
    }
    text
}
