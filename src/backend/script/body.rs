//! The parts that scripts share: folders, environment, the command, and what follows its end.

use std::fmt::Write;

use super::{STATUS, WAIT, words};
use crate::backend::shell::quote;
use crate::backend::{Job, Profile};

/// The script that Bridge is started by, below its folder.
const ENTRY: &str = "scripts/training/run_recipe.py";

/// Folders, modules, environment.
pub(super) fn beginning(job: &Job, profile: &Profile, bridge: &str) -> String {
    let path = |path: &std::path::Path| quote(&path.to_string_lossy());
    let folders = &job.folders;
    let mut text = format!("\nrun={}\n", path(&folders.run));
    let tensorboard = path(&folders.tensorboard);
    if job.saves {
        let _ = writeln!(text, "save={}", path(&folders.save));
        let _ = writeln!(text, "mkdir -p -- \"$run\" \"$save\" {tensorboard}");
    } else {
        let _ = writeln!(text, "mkdir -p -- \"$run\" {tensorboard}");
    }
    text += "\n# Says how it ended, to whoever asks when the queue has forgotten the job.\n";
    let _ = writeln!(
        text,
        "trap 'printf \"%s %s %s\\n\" \"$?\" \"${{SLURM_JOB_ID:-$$}}\" \"${{SLURM_RESTART_COUNT:-0}}\" >>\"$run/{STATUS}\"' EXIT"
    );
    let checks = checks(job, profile, bridge);
    if checks.contains("|| fail ") {
        text += "\nfail() {\n    printf 'trestle: %s\\n' \"$1\" >&2\n    exit 64\n}\n";
    }
    text + &checks
}

/// What must be there, and what is taken from the surroundings.
fn checks(job: &Job, profile: &Profile, bridge: &str) -> String {
    let mut text = String::new();
    if let Some(pretrained) = &job.folders.pretrained {
        let pretrained = quote(&pretrained.to_string_lossy());
        let _ = write!(
            text,
            "\npretrained={pretrained}\n[ -e \"$pretrained\" ] || fail \"no weights at $pretrained\"\n"
        );
    }
    if profile.container.is_none() {
        let _ = write!(
            text,
            "\nbridge={}\n[ -f \"$bridge/{ENTRY}\" ] || fail \"no {ENTRY} in $bridge\"\ncd -- \"$bridge\"\n",
            quote(bridge)
        );
    }
    if !profile.modules.is_empty() {
        text += "\n# A batch shell may lack the function that a login shell has.\n";
        text += "for file in /etc/profile.d/lmod.sh /etc/profile.d/modules.sh; do\n";
        text += "    # shellcheck disable=SC1090 # whichever the site has\n";
        text += "    if ! command -v module >/dev/null 2>&1 && [ -r \"$file\" ]; then set +u; . \"$file\"; set -u; fi\n";
        text += "done\n";
        text += "command -v module >/dev/null 2>&1 || fail 'the profile names modules, but there is no module command'\n";
        let names: Vec<String> = profile.modules.iter().map(|m| quote(m)).collect();
        let _ = writeln!(text, "set +u\nmodule load {}\nset -u", names.join(" "));
    }
    if !profile.environment.is_empty() {
        text += "\n# From the submitting shell, by name.\n";
        for name in &profile.environment {
            let _ = writeln!(
                text,
                "[ -n \"${{{name}:-}}\" ] || fail 'the variable {name} is not set'\nexport {name}"
            );
        }
    }
    if !job.environment.is_empty() {
        text += "\n# Defaults of the recipe; what is set already wins.\n";
        for (name, value) in &job.environment {
            let _ = writeln!(
                text,
                "[ -n \"${{{name}+set}}\" ] || export {name}={}",
                quote(value)
            );
        }
    }
    text
}

/// The command that every process runs, after the words that start Python.
pub(super) fn command(job: &Job, python: &[String]) -> String {
    let mut command = python.to_vec();
    command.push(ENTRY.to_owned());
    command.extend(job.arguments());
    words("command", &command)
}

/// What signals do, set before there is anything to stop.
pub(super) fn signals(job: &Job, profile: &Profile) -> String {
    let ask = "scancel --signal=TERM \"$SLURM_JOB_ID\" || true";
    let mut text = String::from(
        "\n# USR1 comes before the time limit, USR2 from `trestle job RUN --stop`: the steps get a TERM, write a checkpoint and end.\n",
    );
    if profile.go_on && job.saves {
        text += "asked=no\n";
        let _ = writeln!(text, "trap 'asked=limit; {ask}' USR1");
        let _ = writeln!(text, "trap 'asked=stop; {ask}' USR2");
        text += "before=$(cat \"$save/latest_checkpointed_iteration.txt\" 2>/dev/null || true)\n";
    } else {
        let _ = writeln!(text, "trap '{ask}' USR1 USR2");
    }
    text
}

/// Waiting, and queueing again.
pub(super) fn ending(job: &Job, profile: &Profile) -> String {
    let mut text = WAIT.to_owned();
    if profile.go_on && job.saves {
        text += r#"
# Queue again after the time limit, as long as there is progress.
after=$(cat "$save/latest_checkpointed_iteration.txt" 2>/dev/null || true)
if [ "$asked" = limit ] && [ "$after" != "$before" ]; then
    scontrol requeue "$SLURM_JOB_ID"
    exit 0
fi
"#;
    }
    text + "exit \"$status\"\n"
}
