//! Work for the outside world: files, processes, runs. Whatever may take time runs on the worker and answers with messages.

mod bridge;
mod foreign;
mod layout;
mod logs;
mod mapping;
mod queue;
mod recipes;
mod runs;
mod train;

use std::io;
use std::path::PathBuf;

use super::mailbox::Mailbox;
use super::worker::Worker;
use crate::app::{self, Effect, Key, Message, State, Tone};
use crate::run;
use crate::watch::Watcher;

/// The runtime's threads and where things lie.
#[derive(Debug)]
pub(super) struct Outside {
    /// Into the loop.
    pub(super) mailbox: Mailbox,
    /// Slow work, in order.
    pub(super) worker: Worker,
    /// The recipes' folder.
    pub(super) recipes: PathBuf,
    /// Where new runs go; none is where the recipe says.
    pub(super) runs: Option<PathBuf>,
    /// The folder that is listed.
    pub(super) runs_folder: PathBuf,
    /// What watches the recipes; none where the system gives no thread.
    watcher: Option<Watcher>,
    /// What follows runs that other programs train.
    foreign: foreign::Follower,
    /// Launched runs that are followed.
    followed: queue::Followed,
    /// What follows the watched run.
    train: train::Follower,
    /// What follows the watched run's console.
    logs: logs::Follower,
    /// What reads values for the Mapping screen.
    mapping: mapping::Threads,
}

impl Outside {
    pub(super) fn new(mailbox: Mailbox, runs: Option<PathBuf>, state: &State) -> io::Result<Self> {
        let changes = mailbox.clone();
        let recipes_changed = move |paths| {
            changes.send(Message::Recipes(app::recipes::Message::Changed(paths)));
        };
        let folders = recipes::watched(&state.recipes.folder, &[]);
        let watcher = Watcher::spawn(folders, recipes_changed);
        if let Err(error) = &watcher {
            let why = format!("recipes are not watched: {error}");
            mailbox.send(Message::Say(Tone::Bad, why));
        }
        Ok(Self {
            watcher: watcher.ok(),
            worker: Worker::new("worker", mailbox.clone())?,
            mailbox,
            recipes: state.recipes.folder.clone(),
            runs,
            runs_folder: state.runs_folder.clone(),
            foreign: foreign::Follower::default(),
            followed: queue::Followed::default(),
            train: train::Follower::default(),
            logs: logs::Follower::default(),
            mapping: mapping::Threads::default(),
        })
    }

    /// Starts the work of an effect; the terminal's own effects never arrive here.
    pub(super) fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::ListRecipes => recipes::list(self),
            Effect::CheckRecipe(path) => recipes::check(self, path),
            Effect::WatchFolders(folders) => {
                if let Some(watcher) = &self.watcher {
                    watcher.watch(recipes::watched(&self.recipes, &folders));
                }
            }
            Effect::ApplyFix { fix, expected } => recipes::apply_fix(self, fix, expected),
            Effect::CreateFile { path, text } => recipes::create_file(self, path, text),
            Effect::ReplaceFile { path, text } => recipes::replace_file(self, path, text),
            Effect::LookAtMachine => recipes::look(self),
            Effect::Launch(request) => recipes::launch(self, request),
            Effect::Bridge(effect) => bridge::carry_out(self, effect),
            Effect::Request { run, kind } => {
                self.worker.run(move || {
                    let asked = run::open(&run).and_then(|run| run::request(&run, kind));
                    asked
                        .err()
                        .map(|error| Message::Say(Tone::Bad, error.to_string()))
                });
            }
            Effect::Mapping(effect) => mapping::carry_out(self, effect),
            Effect::Layout(effect) => layout::carry_out(self, effect),
            Effect::Train(effect) => train::carry_out(self, effect),
            Effect::Runs(effect) => runs::carry_out(self, effect),
            Effect::Logs(effect) => logs::carry_out(self, effect),
            Effect::Quit
            | Effect::Suspend
            | Effect::Redraw
            | Effect::Mouse(_)
            | Effect::Copy(_)
            | Effect::OpenEditor { .. } => {}
        }
    }
}

/// For the tests of the panic hook: in debug builds with `TRESTLE_PANIC=ui` or `worker`, F12 panics there.
pub(super) fn panic_on_demand(key: Key, outside: &Outside) {
    if cfg!(debug_assertions)
        && key.code == crate::app::Code::F(12)
        && let Ok(place) = std::env::var("TRESTLE_PANIC")
    {
        assert_ne!(place, "ui", "panic on demand in the loop");
        outside.worker.run(move || {
            assert_ne!(place, "worker", "panic on demand in the worker");
            None
        });
    }
}
