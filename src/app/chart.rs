//! How charts look at a run: axis, scale, smoothing, window, cursor. All charts of a screen share one [`View`].

use std::fmt::Write as _;

use crate::run::series::Axis;

/// How values are spaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Scale {
    /// Evenly.
    #[default]
    Linear,
    /// y by its logarithm.
    LogY,
    /// x and y by their logarithms.
    LogLog,
}

/// Shares of the past that smoothing steps through.
const SMOOTHINGS: [f32; 8] = [0.0, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995];

/// The smallest window as a share of the whole.
const NARROWEST: f64 = 1e-6;

/// How charts look at a run.
#[derive(Debug, Clone, PartialEq)]
pub struct View {
    /// What x means.
    pub axis: Axis,
    /// How values are spaced.
    pub scale: Scale,
    /// Which of the smoothings.
    smoothing: usize,
    /// Whether the band from minimum to maximum is drawn.
    pub band: bool,
    /// The part of x shown; none is all.
    window: Option<(f64, f64)>,
    /// Whether the window's end stays at the newest step.
    pub follow: bool,
    /// x of the cursor.
    pub cursor: Option<f64>,
    /// Whether every chart shows its value at the cursor.
    pub inspect: bool,
}

impl Default for View {
    fn default() -> Self {
        Self {
            axis: Axis::Step,
            scale: Scale::Linear,
            smoothing: 3,
            band: true,
            window: None,
            follow: true,
            cursor: None,
            inspect: false,
        }
    }
}

impl View {
    /// The same look at another run: its window and cursor are new.
    #[must_use]
    pub fn of_another_run(&self) -> Self {
        Self {
            window: None,
            cursor: None,
            follow: true,
            ..self.clone()
        }
    }

    /// Share of the past in smoothed values.
    pub fn smoothing(&self) -> f32 {
        SMOOTHINGS[self.smoothing]
    }

    /// Smooths more or less; false at the end of the scale.
    pub fn smooth(&mut self, more: bool) -> bool {
        let next = if more {
            (self.smoothing + 1).min(SMOOTHINGS.len() - 1)
        } else {
            self.smoothing.saturating_sub(1)
        };
        std::mem::replace(&mut self.smoothing, next) != next
    }

    /// The x shown of a run whose x go over `range`.
    pub fn window(&self, range: (f64, f64)) -> (f64, f64) {
        match self.window {
            None => range,
            Some((start, end)) if self.follow => {
                let width = end - start;
                ((range.1 - width).max(range.0), range.1)
            }
            Some(window) => window,
        }
    }

    /// Whether less than the whole is shown.
    pub fn is_zoomed(&self) -> bool {
        self.window.is_some()
    }

    /// The next scale.
    pub fn cycle_scale(&mut self) {
        self.scale = match self.scale {
            Scale::Linear => Scale::LogY,
            Scale::LogY => Scale::LogLog,
            Scale::LogLog => Scale::Linear,
        };
    }

    /// The next meaning of x. Window and cursor belong to the old one and go.
    pub fn cycle_axis(&mut self) {
        self.axis = match self.axis {
            Axis::Step => Axis::Tokens,
            Axis::Tokens => Axis::Time,
            Axis::Time => Axis::Step,
        };
        self.window = None;
        self.cursor = None;
    }

    /// Makes the window `factor` times as wide, around the cursor, or the end while following.
    pub fn zoom(&mut self, factor: f64, range: (f64, f64)) {
        let (start, end) = self.window(range);
        let whole = range.1 - range.0;
        let width = ((end - start) * factor).max(whole * NARROWEST);
        if width >= whole {
            self.window = None;
            return;
        }
        let middle = match self.cursor {
            Some(cursor) if (start..=end).contains(&cursor) => cursor,
            _ if self.follow => range.1,
            _ => f64::midpoint(start, end),
        };
        let share = (middle - start) / (end - start).max(f64::MIN_POSITIVE);
        self.place(middle - share * width, width, range);
    }

    /// Moves the window by a share of its width.
    pub fn pan(&mut self, share: f64, range: (f64, f64)) {
        if self.window.is_none() {
            return;
        }
        let (start, end) = self.window(range);
        self.follow = false;
        self.place(start + share * (end - start), end - start, range);
        // At the end again, new steps are followed again.
        self.follow = self.window.is_some_and(|(_, end)| end >= range.1);
    }

    fn place(&mut self, start: f64, width: f64, range: (f64, f64)) {
        let start = start.clamp(range.0, (range.1 - width).max(range.0));
        self.window = Some((start, start + width));
    }

    /// Shows everything.
    pub fn reset(&mut self) {
        self.window = None;
        self.follow = true;
        self.cursor = None;
    }

    /// Moves the cursor by a share of the window; a first movement starts at the window's end. The window goes along.
    pub fn move_cursor(&mut self, share: f64, range: (f64, f64)) {
        let (start, end) = self.window(range);
        let x = match self.cursor {
            None => end,
            Some(cursor) => (cursor + share * (end - start)).clamp(range.0, range.1),
        };
        self.cursor = Some(x);
        if self.window.is_some() && (x < start || x > end) {
            let over = if x < start { x - start } else { x - end };
            self.follow = false;
            self.place(start + over, end - start, range);
        }
    }

    /// Puts the cursor to `x`, which the window then shows.
    pub fn put_cursor(&mut self, x: f64, range: (f64, f64)) {
        self.cursor = Some(x);
        self.move_cursor(0.0, range);
    }

    /// What a chart of `name` shows, for its title: x axis, scale, smoothing, and band.
    pub fn title(&self, name: &str) -> String {
        let axis = match self.axis {
            Axis::Step => "steps",
            Axis::Tokens => "tokens",
            Axis::Time => "time",
        };
        let mut title = format!("{name} · x {axis}");
        match self.scale {
            Scale::Linear => {}
            Scale::LogY => title.push_str(" · log y"),
            Scale::LogLog => title.push_str(" · log-log"),
        }
        if self.smoothing > 0 {
            let _ = write!(title, " · ema {}", self.smoothing());
        }
        if self.band {
            title.push_str(" + band");
        }
        title
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RANGE: (f64, f64) = (0.0, 1000.0);

    #[test]
    fn zooming_in_and_out_comes_back() {
        let mut view = View::default();
        view.zoom(0.5, RANGE);
        assert_eq!(view.window(RANGE), (500.0, 1000.0));
        view.zoom(0.5, RANGE);
        assert_eq!(view.window((0.0, 1100.0)), (850.0, 1100.0));
        view.zoom(2.0, RANGE);
        view.zoom(2.0, RANGE);
        assert!(!view.is_zoomed());
    }

    #[test]
    fn zoom_keeps_the_cursor_where_it_is() {
        let mut view = View::default();
        view.put_cursor(250.0, RANGE);
        view.zoom(0.5, RANGE);
        view.follow = false;
        assert_eq!(view.window(RANGE), (125.0, 625.0));
    }

    #[test]
    fn panning_back_stops_following_until_the_end_is_reached_again() {
        let mut view = View::default();
        view.zoom(0.25, RANGE);
        view.pan(-0.5, RANGE);
        assert!(!view.follow);
        assert_eq!(view.window((0.0, 2000.0)), (625.0, 875.0));
        view.pan(0.5, RANGE);
        assert!(view.follow);
    }

    #[test]
    fn the_window_goes_along_with_the_cursor() {
        let mut view = View::default();
        view.zoom(0.1, RANGE);
        view.put_cursor(300.0, RANGE);
        let (start, end) = view.window(RANGE);
        assert!((start..=end).contains(&300.0));
        assert_eq!(end - start, 100.0);
    }
}
