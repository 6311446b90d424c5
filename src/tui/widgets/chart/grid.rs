//! Dots in braille cells, two across and four down, with layers that cover each other.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;

/// Bits of the dots of a cell by column and row.
const DOTS: [[u8; 4]; 2] = [[0x01, 0x02, 0x04, 0x40], [0x08, 0x10, 0x20, 0x80]];

#[derive(Debug, Clone, Copy, Default)]
struct Cell {
    bits: u8,
    layer: usize,
}

/// A grid of dots. A dot of a later layer empties the cell of dots of earlier ones, since a cell has one colour.
#[derive(Debug)]
pub(super) struct Grid {
    columns: usize,
    rows: usize,
    cells: Vec<Cell>,
    styles: Vec<Style>,
}

impl Grid {
    pub(super) fn new(columns: usize, rows: usize) -> Self {
        Self {
            columns,
            rows,
            cells: vec![Cell::default(); columns * rows],
            styles: vec![],
        }
    }

    /// Starts a layer over all earlier ones.
    pub(super) fn layer(&mut self, style: Style) {
        self.styles.push(style);
    }

    /// Dots across.
    pub(super) fn width(&self) -> usize {
        2 * self.columns
    }

    /// Dots down.
    pub(super) fn height(&self) -> usize {
        4 * self.rows
    }

    /// Sets a dot of the present layer; `x` from the left, `y` from the top. Dots outside are left out.
    pub(super) fn dot(&mut self, x: i64, y: i64) {
        if x < 0 || y < 0 || x >= self.width() as i64 || y >= self.height() as i64 {
            return;
        }
        let (x, y) = (x as usize, y as usize);
        let layer = self.styles.len();
        let cell = &mut self.cells[y / 4 * self.columns + x / 2];
        if cell.layer != layer {
            *cell = Cell { bits: 0, layer };
        }
        cell.bits |= DOTS[x % 2][y % 4];
    }

    /// A straight line between two dots. Ends may lie above or below the grid.
    pub(super) fn line(&mut self, from: (i64, i64), to: (i64, i64)) {
        let steps = (to.0 - from.0).abs().max((to.1 - from.1).abs()).max(1);
        for i in 0..=steps {
            let x = from.0 + ((to.0 - from.0) * i + steps / 2).div_euclid(steps);
            let y = from.1 + ((to.1 - from.1) * i + steps / 2).div_euclid(steps);
            self.dot(x, y);
        }
    }

    /// Whether a cell has any dot.
    pub(super) fn is_empty(&self, column: usize, row: usize) -> bool {
        self.cells[row * self.columns + column].bits == 0
    }

    /// Writes the cells that have dots.
    pub(super) fn render(&self, area: Rect, buf: &mut Buffer) {
        for row in 0..self.rows {
            for column in 0..self.columns {
                let cell = self.cells[row * self.columns + column];
                if cell.bits == 0 {
                    continue;
                }
                let place = (area.x + column as u16, area.y + row as u16);
                let symbol = char::from_u32(0x2800 + u32::from(cell.bits)).unwrap_or(' ');
                if let Some(target) = buf.cell_mut(place) {
                    target
                        .set_char(symbol)
                        .set_style(self.styles[cell.layer - 1]);
                }
            }
        }
    }
}
