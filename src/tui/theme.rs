//! Colours by meaning.
//!
//! Views ask for a meaning and get a style. Without colour every meaning that matters still has an attribute, and views add a glyph.

use ratatui::style::{Color, Modifier, Style};

use crate::app::{Background, Tone};

/// How many colours the terminal has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// None: `NO_COLOR` or a dumb terminal.
    None,
    /// The sixteen of ANSI.
    Sixteen,
    /// xterm's 256 and more; only entries of its cube are used, so that true colour adds nothing.
    Many,
}

/// What the terminal can show, from the environment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities {
    /// Colours.
    pub depth: Depth,
    /// Whether only ASCII can be shown.
    pub ascii: bool,
    /// The background, if the environment says.
    pub background: Option<Background>,
}

impl Capabilities {
    /// Reads them with `get`, which looks an environment variable up.
    pub fn from_environment(get: impl Fn(&str) -> Option<String>) -> Self {
        let term = get("TERM").unwrap_or_default();
        let is_set = |name: &str| get(name).is_some_and(|v| !v.is_empty());
        let true_colour = get("COLORTERM").is_some_and(|v| v == "truecolor" || v == "24bit");
        let depth = if is_set("NO_COLOR") || term == "dumb" || term.is_empty() {
            Depth::None
        } else if true_colour || term.contains("256") || term.contains("kitty") {
            Depth::Many
        } else {
            Depth::Sixteen
        };
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"]
            .into_iter()
            .find_map(|name| get(name).filter(|v| !v.is_empty()))
            .unwrap_or_default()
            .to_lowercase();
        let utf8 = locale.contains("utf-8") || locale.contains("utf8");
        let ascii = match get("TRESTLE_ASCII").as_deref() {
            Some("0") => false,
            Some(v) if !v.is_empty() => true,
            _ => !utf8 || term == "dumb" || term == "linux",
        };
        let background = match get("TRESTLE_THEME").as_deref() {
            Some("light") => Some(Background::Light),
            Some("dark") => Some(Background::Dark),
            // COLORFGBG is "foreground;background", where 7 and 15 are white.
            _ => get("COLORFGBG").and_then(|v| match v.rsplit(';').next() {
                Some("7" | "15") => Some(Background::Light),
                Some(_) => Some(Background::Dark),
                None => None,
            }),
        };
        Self {
            depth,
            ascii,
            background,
        }
    }
}

/// Styles by meaning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Theme {
    /// Running text.
    pub text: Style,
    /// What can be overlooked.
    pub dim: Style,
    /// What the eye should find first.
    pub accent: Style,
    /// Keys in hints.
    pub key: Style,
    /// A pane's border.
    pub border: Style,
    /// The focused pane's border.
    pub border_focused: Style,
    /// A pane's title.
    pub title: Style,
    /// The row under the cursor in the focused pane.
    pub selection: Style,
    /// The row under the cursor in another pane.
    pub selection_idle: Style,
    /// The screen shown.
    pub tab_active: Style,
    /// Good.
    pub ok: Style,
    /// Deserves a look.
    pub warning: Style,
    /// Wrong.
    pub error: Style,
    /// At work.
    pub running: Style,
    /// A filled part of a bar.
    pub bar: Style,
    /// Lines of charts, in order: main loss, then MTP depths.
    pub series: [Style; 6],
    /// Whether views must do with ASCII.
    pub ascii: bool,
}

impl Theme {
    /// The theme for a terminal and a background.
    pub fn new(capabilities: Capabilities, background: Background) -> Self {
        let plain = Style::new();
        let bold = plain.add_modifier(Modifier::BOLD);
        let reversed = plain.add_modifier(Modifier::REVERSED);
        let ascii = capabilities.ascii;
        if capabilities.depth == Depth::None {
            return Self {
                text: plain,
                dim: plain.add_modifier(Modifier::DIM),
                accent: bold,
                key: bold,
                border: plain.add_modifier(Modifier::DIM),
                border_focused: bold,
                title: bold,
                selection: reversed,
                selection_idle: bold,
                tab_active: reversed,
                ok: plain,
                warning: bold,
                error: bold.add_modifier(Modifier::UNDERLINED),
                running: bold,
                bar: plain,
                series: [
                    bold,
                    plain,
                    plain.add_modifier(Modifier::DIM),
                    plain,
                    plain,
                    plain,
                ],
                ascii,
            };
        }
        let many = capabilities.depth == Depth::Many;
        let pick = |dark: u8, light: u8, ansi_dark: Color, ansi_light: Color| {
            let dark_background = background == Background::Dark;
            match (many, dark_background) {
                (true, true) => Color::Indexed(dark),
                (true, false) => Color::Indexed(light),
                (false, true) => ansi_dark,
                (false, false) => ansi_light,
            }
        };
        let fg = |dark, light, a, b| plain.fg(pick(dark, light, a, b));
        let accent = fg(75, 25, Color::Cyan, Color::Blue);
        let dim = fg(245, 242, Color::DarkGray, Color::DarkGray);
        let selection = plain.bg(pick(24, 153, Color::Blue, Color::Cyan));
        Self {
            text: plain,
            dim,
            accent,
            key: accent.add_modifier(Modifier::BOLD),
            border: fg(240, 248, Color::DarkGray, Color::Gray),
            border_focused: accent.add_modifier(Modifier::BOLD),
            title: bold,
            selection: if many {
                selection.add_modifier(Modifier::BOLD)
            } else {
                reversed
            },
            selection_idle: plain.bg(pick(236, 254, Color::Reset, Color::Reset)),
            tab_active: accent.add_modifier(Modifier::BOLD | Modifier::REVERSED),
            ok: fg(78, 28, Color::Green, Color::Green),
            warning: fg(214, 130, Color::Yellow, Color::Magenta),
            error: fg(203, 160, Color::Red, Color::Red).add_modifier(Modifier::BOLD),
            running: fg(80, 30, Color::Cyan, Color::Blue).add_modifier(Modifier::BOLD),
            bar: accent,
            // Wong's colour-blind safe order: blue, orange, green, pink, sky, yellow.
            series: [
                fg(75, 25, Color::Cyan, Color::Blue),
                fg(214, 130, Color::Yellow, Color::Red),
                fg(78, 28, Color::Green, Color::Green),
                fg(175, 132, Color::Magenta, Color::Magenta),
                fg(117, 31, Color::LightBlue, Color::Cyan),
                fg(227, 100, Color::LightYellow, Color::DarkGray),
            ],
            ascii,
        }
    }

    /// The style of a short message.
    pub fn tone(&self, tone: Tone) -> Style {
        match tone {
            Tone::Good => self.ok,
            Tone::Neutral => self.text,
            Tone::Bad => self.error,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pairs: &[(&str, &str)]) -> Capabilities {
        Capabilities::from_environment(|name| {
            pairs
                .iter()
                .find(|(k, _)| *k == name)
                .map(|(_, v)| (*v).to_owned())
        })
    }

    #[test]
    fn the_environment_decides() {
        let full = of(&[("TERM", "xterm-256color"), ("LANG", "en_US.UTF-8")]);
        assert_eq!((full.depth, full.ascii), (Depth::Many, false));
        let none = of(&[
            ("TERM", "xterm-256color"),
            ("NO_COLOR", "1"),
            ("LANG", "C.UTF-8"),
        ]);
        assert_eq!((none.depth, none.ascii), (Depth::None, false));
        let console = of(&[("TERM", "linux"), ("LANG", "C.UTF-8")]);
        assert_eq!((console.depth, console.ascii), (Depth::Sixteen, true));
        assert!(of(&[("TERM", "xterm"), ("LANG", "C")]).ascii);
        assert!(of(&[("TERM", "xterm"), ("LC_ALL", "C"), ("LANG", "C.UTF-8")]).ascii);
        assert!(
            of(&[
                ("TERM", "xterm"),
                ("LANG", "C.UTF-8"),
                ("TRESTLE_ASCII", "1")
            ])
            .ascii
        );
        assert_eq!(
            of(&[("COLORFGBG", "0;15")]).background,
            Some(Background::Light)
        );
    }

    #[test]
    fn without_colour_nothing_has_a_colour() {
        let capabilities = of(&[("NO_COLOR", "1")]);
        let theme = Theme::new(capabilities, Background::Dark);
        for style in [theme.error, theme.selection, theme.series[1], theme.ok] {
            assert_eq!((style.fg, style.bg), (None, None));
        }
        assert_ne!(theme.selection, theme.text);
        assert_ne!(theme.error, theme.warning);
    }
}
