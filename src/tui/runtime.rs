//! The loop: messages in, effects out, frames when something changed.

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::canvas::Hits;
use super::effects::Outside;
use super::input::{self, Input};
use super::mailbox::{Event, Mailbox};
use super::terminal::{self, Terminal};
use super::theme::{Capabilities, Theme};
use super::{Farewell, Options, TuiError, editor, signals, view};
use crate::app::{self, Effect, Keymap, Message, Size, State, Tone};

/// Between frames while messages flow.
const FRAME: Duration = Duration::from_millis(33);
/// Between frames after a key.
const KEY_FRAME: Duration = Duration::from_millis(16);
/// Between ticks while something on the screen counts seconds.
const TICK: Duration = Duration::from_secs(1);

struct Runtime {
    state: State,
    terminal: Terminal,
    capabilities: Capabilities,
    theme: Theme,
    hits: Hits,
    input: Input,
    outside: Outside,
    start: Instant,
    last_frame: Option<Instant>,
    /// A key came since the last frame.
    urgent: bool,
    quit: bool,
}

/// Opens the terminal, runs until the user leaves.
pub(super) fn run(options: Options) -> Result<Farewell, TuiError> {
    let start = Instant::now();
    let capabilities = Capabilities::from_environment(|name| std::env::var(name).ok());
    let (mut keymap, mut complaint) = (Keymap::default(), None);
    if let Some((path, text)) = &options.keymap {
        let (read, problems) = Keymap::from_toml(text);
        keymap = read;
        complaint = problems
            .first()
            .map(|first| format!("{}: {first}", path.display()));
    }
    let mut state = State::new(
        options.recipes,
        options.runs.clone().unwrap_or_else(|| "runs".into()),
        keymap,
    );
    state.background = capabilities.background.unwrap_or_default();
    state.mouse = std::env::var("TRESTLE_MOUSE").map_or(true, |v| v != "0");
    let theme = Theme::new(capabilities, state.background);
    terminal::install_panic_hook();
    let (mailbox, receiver) = Mailbox::new();
    // Signals first: one that comes while the terminal is taken over must not find the default handler.
    signals::start(mailbox.clone())?;
    let terminal = Terminal::open(state.mouse)?;
    if let Ok((width, height)) = crossterm::terminal::size() {
        state.size = Size { width, height };
    }
    let input = Input::start(mailbox.clone())?;
    let outside = Outside::new(mailbox, options.runs, &state)?;
    let mut runtime = Runtime {
        state,
        terminal,
        capabilities,
        theme,
        hits: Hits::default(),
        input,
        outside,
        start,
        last_frame: None,
        urgent: false,
        quit: false,
    };
    runtime.tick()?;
    runtime.draw()?;
    if let Some(complaint) = complaint {
        runtime.update(Message::Say(Tone::Bad, complaint))?;
    }
    for effect in app::update::start(&runtime.state) {
        runtime.carry_out(effect)?;
    }
    if let Some(run) = options.show {
        let name = run
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        runtime.update(Message::Launched(Ok(run)))?;
        runtime.update(Message::Say(Tone::Good, format!("watching {name}")))?;
    }
    runtime.turn(&receiver)?;
    // Threads that wait to send must not keep the program from ending.
    drop(receiver);
    let detached = runtime
        .state
        .train
        .is_alive
        .then(|| runtime.state.train.run.clone())
        .flatten();
    Ok(Farewell { detached })
}

impl Runtime {
    fn turn(&mut self, receiver: &Receiver<Event>) -> Result<(), TuiError> {
        while !self.quit {
            let first = match self.wait() {
                None => receiver.recv().map_err(RecvTimeoutError::from),
                Some(time) => receiver.recv_timeout(time),
            };
            self.tick()?;
            match first {
                Ok(event) => {
                    self.handle(event)?;
                    while !self.quit
                        && let Ok(event) = receiver.try_recv()
                    {
                        self.handle(event)?;
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
            if self.state.dirty && self.until_frame().is_zero() {
                self.draw()?;
            }
        }
        Ok(())
    }

    /// How long to wait for the next message; `None` for as long as it takes.
    fn wait(&self) -> Option<Duration> {
        if self.state.dirty {
            return Some(self.until_frame());
        }
        self.state.needs_ticks().then_some(TICK)
    }

    fn until_frame(&self) -> Duration {
        let gap = if self.urgent { KEY_FRAME } else { FRAME };
        self.last_frame
            .map_or(Duration::ZERO, |last| gap.saturating_sub(last.elapsed()))
    }

    fn tick(&mut self) -> Result<(), TuiError> {
        let now_ms = self.start.elapsed().as_millis() as u64;
        let wall_ms = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |d| d.as_millis() as i64);
        for effect in app::update(&mut self.state, Message::Tick { now_ms, wall_ms }) {
            self.carry_out(effect)?;
        }
        Ok(())
    }

    fn handle(&mut self, event: Event) -> Result<(), TuiError> {
        match event {
            Event::Message(message) => self.update(message),
            Event::Key(key) => {
                self.urgent = true;
                input::answered();
                super::effects::panic_on_demand(key, &self.outside);
                self.update(Message::Key(key))
            }
            Event::Mouse(mouse, column, row) => {
                self.urgent = true;
                match self.hits.at(column, row) {
                    Some(target) => self.update(Message::Mouse(mouse, target)),
                    None => Ok(()),
                }
            }
            Event::Resize(size) => self.update(Message::Resize(size)),
            Event::Suspend => self.carry_out(Effect::Suspend),
            Event::Continue => {
                self.terminal.reclaim()?;
                if let Ok((width, height)) = crossterm::terminal::size() {
                    self.update(Message::Resize(Size { width, height }))?;
                }
                Ok(())
            }
            Event::Terminate => self.update(Message::Terminate),
        }
    }

    fn update(&mut self, message: Message) -> Result<(), TuiError> {
        let background = self.state.background;
        let effects = app::update(&mut self.state, message);
        if self.state.background != background {
            self.theme = Theme::new(self.capabilities, self.state.background);
        }
        for effect in effects {
            self.carry_out(effect)?;
        }
        Ok(())
    }

    fn carry_out(&mut self, effect: Effect) -> Result<(), TuiError> {
        match effect {
            Effect::Quit => self.quit = true,
            Effect::Redraw => {
                self.terminal.forget()?;
                self.state.dirty = true;
            }
            Effect::Mouse(is_told) => self.terminal.mouse(is_told)?,
            Effect::Suspend => {
                self.input
                    .paused(|| self.terminal.lend(signals::stop_myself))?;
                self.state.dirty = true;
            }
            Effect::OpenEditor { path, line, column } => {
                let done = self
                    .input
                    .paused(|| self.terminal.lend(|| editor::open(&path, line, column)))?;
                self.state.dirty = true;
                match done {
                    Ok(status) if !status.success() => {
                        self.update(Message::Say(
                            Tone::Bad,
                            format!("the editor ended with {status}"),
                        ))?;
                    }
                    Ok(_) => {}
                    Err(why) => self.update(Message::Say(Tone::Bad, why))?,
                }
                // Whoever saved in the editor wants to see the answer now, not after the watcher's debounce.
                self.update(Message::Recipes(app::recipes::Message::Changed(vec![path])))?;
            }
            Effect::Copy(text) => {
                self.terminal.copy(&text)?;
                let text = text.lines().next().unwrap_or_default();
                self.update(Message::Say(Tone::Good, format!("copied {text}")))?;
            }
            other => self.outside.carry_out(other),
        }
        Ok(())
    }

    fn draw(&mut self) -> Result<(), TuiError> {
        let Self {
            state,
            theme,
            hits,
            terminal,
            ..
        } = self;
        terminal.draw(|frame| view::draw(state, theme, frame.area(), frame.buffer_mut(), hits))?;
        self.last_frame = Some(Instant::now());
        self.urgent = false;
        self.state.dirty = false;
        Ok(())
    }
}
