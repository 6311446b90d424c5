//! Where views draw: cells, the theme, and what lies where for the mouse.

use ratatui::buffer::Buffer;
use ratatui::layout::{Position, Rect};
use ratatui::style::Style;
use ratatui::text::Line;
use ratatui::widgets::{Block, BorderType, Widget};

use super::theme::Theme;
use crate::app::Target;

/// What lies where; later ones lie above earlier ones.
#[derive(Debug, Default, Clone)]
pub struct Hits(Vec<(Rect, Target)>);

impl Hits {
    /// Forgets everything.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// Notes that `target` lies in `area`.
    pub fn add(&mut self, area: Rect, target: Target) {
        self.0.push((area, target));
    }

    /// What lies at a cell.
    pub fn at(&self, column: u16, row: u16) -> Option<Target> {
        let position = Position::new(column, row);
        self.0
            .iter()
            .rev()
            .find(|(area, _)| area.contains(position))
            .map(|(_, target)| *target)
    }
}

/// Where views draw.
#[derive(Debug)]
pub struct Canvas<'a> {
    /// The cells.
    pub buf: &'a mut Buffer,
    /// Styles by meaning.
    pub theme: &'a Theme,
    /// What lies where.
    pub hits: &'a mut Hits,
}

impl Canvas<'_> {
    /// Draws a pane's border with a title at each end and returns the inside; `pane` is the screen's number for it.
    pub fn pane<'t>(
        &mut self,
        area: Rect,
        pane: usize,
        is_focused: bool,
        title: impl Into<Line<'t>>,
        right: impl Into<Line<'t>>,
    ) -> Rect {
        let area = area.intersection(self.buf.area);
        self.hits.add(area, Target::Pane(pane));
        if area.width < 2 || area.height < 2 {
            return Rect::new(area.x, area.y, 0, 0);
        }
        let (border, style) = if is_focused {
            (BorderType::Double, self.theme.border_focused)
        } else {
            (BorderType::Plain, self.theme.border)
        };
        let title: Line = title.into();
        let right: Line = right.into();
        let room = usize::from(area.width.saturating_sub(2));
        let mut block = Block::bordered().border_type(border).border_style(style);
        let taken = title.width() + 2;
        if title.width() > 0 {
            block = block.title_top(spaced(title).style(self.theme.title));
        }
        if right.width() > 0 && taken + right.width() + 3 <= room {
            block = block.title_top(spaced(right).style(self.theme.dim).right_aligned());
        }
        let inner = block.inner(area);
        block.render(area, self.buf);
        inner
    }

    /// Writes one line of text into the given row of `area`, cut at its end; rows outside are left out.
    pub fn line<'t>(&mut self, area: Rect, row: u16, line: impl Into<Line<'t>>) {
        let area = area.intersection(self.buf.area);
        if row < area.height && area.width > 0 {
            let line: Line = line.into();
            self.buf.set_line(area.x, area.y + row, &line, area.width);
            if line.width() > usize::from(area.width)
                && let Some(cell) = self.buf.cell_mut((area.right() - 1, area.y + row))
            {
                cell.set_symbol("…");
            }
        }
    }

    /// Gives one row of `area` a style from end to end.
    pub fn row_style(&mut self, area: Rect, row: u16, style: Style) {
        let area = area.intersection(self.buf.area);
        if row < area.height {
            self.buf
                .set_style(Rect::new(area.x, area.y + row, area.width, 1), style);
        }
    }

    /// Empties an area.
    pub fn clear(&mut self, area: Rect) {
        ratatui::widgets::Clear.render(area.intersection(self.buf.area), self.buf);
    }
}

fn spaced(mut line: Line) -> Line {
    line.spans.insert(0, " ".into());
    line.spans.push(" ".into());
    line
}
