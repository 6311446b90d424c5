//! Work of the Runs screen.

use super::Outside;
use crate::app::Message;
use crate::app::runs::{Effect, Message as Runs};
use crate::run;

pub(super) fn carry_out(outside: &mut Outside, effect: Effect) {
    match effect {
        Effect::List => {
            let runs = outside.runs_folder.clone();
            outside.worker.run(move || {
                let runs = run::list(&runs).unwrap_or_default();
                let paths = runs.into_iter().map(|(run, _)| run.path).collect();
                Some(Message::Runs(Runs::Listed(paths)))
            });
        }
    }
}
