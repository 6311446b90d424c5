//! A workbench in memory: recipes without a disk, a terminal without a screen.

use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use trestle::app::recipes::{Message as Recipes, Outcome};
use trestle::app::{self, Background, Effect, Key, Keymap, Message, Size, State};
use trestle::tui::canvas::Hits;
use trestle::tui::theme::{Capabilities, Depth, Theme};

pub(super) const FOLDER: &str = "/lab/recipes";

const DEMO: &str = "\
# A small model on the bundled text.
[model]
name = \"demo\"
vocab_size = 4096
hidden_size = 128
intermediate_size = 384
num_hidden_layers = 4
num_attention_heads = 4
num_key_value_heads = 2
head_dim = 32
linear_num_key_heads = 4
linear_num_value_heads = 4
linear_key_head_dim = 32
linear_value_head_dim = 32
mtp_num_hidden_layers = 1

[train]
steps = 400
seq_length = 256
micro_batch_size = 4
global_batch_size = 16
";

const MTP2: &str = "\
extends = \"../demo.toml\"
[model]
mtp_num_hidden_layers = 2
[train]
steps = 800 # twice as long
";

const BROKEN: &str = "\
extends = \"demo.toml\"
[train]
stepz = 100
global_batch_size = 18
";

/// The recipes by path.
pub(super) fn files() -> Vec<(PathBuf, &'static str)> {
    let at = |name: &str| Path::new(FOLDER).join(name);
    vec![
        (at("demo.toml"), DEMO),
        (at("broken.toml"), BROKEN),
        (at("ablations/mtp2.toml"), MTP2),
    ]
}

/// A workbench over [`files`] on a terminal of a size.
pub(super) struct Bench {
    pub(super) state: State,
    pub(super) files: Vec<(PathBuf, String)>,
    capabilities: Capabilities,
}

pub(super) const COLOURS: Capabilities = Capabilities {
    depth: Depth::Many,
    ascii: false,
    background: None,
};

impl Bench {
    pub(super) fn new(width: u16, height: u16) -> Self {
        let state = State::new(FOLDER.into(), "/lab/runs".into(), Keymap::default());
        let files = files().into_iter().map(|(p, t)| (p, t.to_owned()));
        let mut bench = Self {
            state,
            files: files.collect(),
            capabilities: COLOURS,
        };
        bench.send(Message::Resize(Size { width, height }));
        let effects = app::update::start(&bench.state);
        bench.carry_out(effects);
        bench
    }

    pub(super) fn with(mut self, capabilities: Capabilities, background: Background) -> Self {
        self.capabilities = capabilities;
        self.state.background = background;
        self
    }

    /// Sends a message and does what reading recipes needs; gives the other effects back.
    pub(super) fn send(&mut self, message: Message) -> Vec<Effect> {
        let effects = app::update(&mut self.state, message);
        self.carry_out(effects)
    }

    fn carry_out(&mut self, effects: Vec<Effect>) -> Vec<Effect> {
        let mut others = Vec::new();
        for effect in effects {
            let answer = match effect {
                Effect::ListRecipes => {
                    Recipes::Listed(Ok(self.files.iter().map(|(p, _)| p.clone()).collect()))
                }
                Effect::CheckRecipe(path) => {
                    let read = |wanted: &Path| {
                        let found = self.files.iter().find(|(path, _)| path == wanted);
                        let missing = || io::Error::from(io::ErrorKind::NotFound);
                        found.map(|(_, text)| text.clone()).ok_or_else(missing)
                    };
                    Recipes::Checked(Box::new(Outcome::read(path, &read)))
                }
                other => {
                    others.push(other);
                    continue;
                }
            };
            others.extend(self.send(Message::Recipes(answer)));
        }
        others
    }

    /// Presses keys by name: `"j j enter"`.
    pub(super) fn press(&mut self, keys: &str) -> Vec<Effect> {
        let keys = Key::chord(keys).unwrap();
        keys.into_iter()
            .flat_map(|key| self.send(Message::Key(key)))
            .collect()
    }

    /// Saves a file and tells that it changed.
    pub(super) fn save(&mut self, name: &str, text: &str) {
        let path = Path::new(FOLDER).join(name);
        self.files.retain(|(p, _)| *p != path);
        self.files.push((path.clone(), text.to_owned()));
        self.send(Message::Recipes(Recipes::Changed(vec![path])));
    }

    pub(super) fn buffer(&self) -> (Buffer, Hits) {
        let size = self.state.size;
        let mut buf = Buffer::empty(Rect::new(0, 0, size.width, size.height));
        let mut hits = Hits::default();
        let theme = Theme::new(self.capabilities, self.state.background);
        trestle::tui::draw(&self.state, &theme, buf.area, &mut buf, &mut hits);
        (buf, hits)
    }

    /// What is on the screen, one line a row, spaces at the ends cut.
    pub(super) fn text(&self) -> String {
        let (buf, _) = self.buffer();
        let width = usize::from(buf.area.width).max(1);
        let mut text = String::new();
        for row in buf.content.chunks(width) {
            let row: String = row.iter().map(ratatui::buffer::Cell::symbol).collect();
            let _ = writeln!(text, "{}", row.trim_end());
        }
        text
    }

    /// Styles of the screen: for every row the runs of cells that have one.
    pub(super) fn styles(&self) -> String {
        let (buf, _) = self.buffer();
        let width = usize::from(buf.area.width).max(1);
        let mut text = String::new();
        for (y, row) in buf.content.chunks(width).enumerate() {
            let mut x = 0;
            while x < row.len() {
                let style = row[x].style();
                let len = row[x..].iter().take_while(|c| c.style() == style).count();
                let (fg, bg) = (row[x].fg, row[x].bg);
                let modifier = row[x].modifier;
                let plain = fg == ratatui::style::Color::Reset
                    && bg == ratatui::style::Color::Reset
                    && modifier.is_empty();
                if !plain {
                    let _ = writeln!(text, "{y}:{x}+{len} {fg} on {bg} {modifier:?}");
                }
                x += len;
            }
        }
        text
    }
}
