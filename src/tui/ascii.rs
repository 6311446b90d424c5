//! A last pass over the drawn cells for terminals that know ASCII only.

use ratatui::buffer::Buffer;

/// Replaces every symbol that is not ASCII by one that looks like it.
pub(super) fn transliterate(buf: &mut Buffer) {
    for cell in &mut buf.content {
        if let Some(c) = cell.symbol().chars().next()
            && !cell.symbol().is_ascii()
        {
            cell.set_char(ascii(c));
        }
    }
}

/// The ASCII character that looks most like `c`.
fn ascii(c: char) -> char {
    match c {
        '─' | '━' | '┄' | '–' | '—' | '−' | '▁' => '-',
        '═' => '=',
        '│' | '┃' | '║' | '▏' | '▕' | '▌' | '▐' => '|',
        '╔'..='╬' | '┌'..='╋' => '+',
        '█' | '▇' | '▆' | '▉' | '▊' | '▋' => '#',
        '▓' | '▅' | '▄' => '=',
        '▒' | '▃' | '▂' => ':',
        '░' | '·' | '…' => '.',
        '▾' => 'v',
        '▸' | '▶' | '→' | '»' => '>',
        '◂' | '◀' | '←' => '<',
        '●' | '■' | '◆' | '★' | '⚑' => '*',
        '○' | '□' => 'o',
        '✓' => 'y',
        '✗' | '×' => 'x',
        '▼' | '↓' | '↘' => 'v',
        '▲' | '↑' | '↗' => '^',
        '≈' => '~',
        'λ' => 'L',
        'Δ' => 'd',
        '‖' => '|',
        '∞' => 'i',
        '\u{2800}' => ' ',
        '\u{2801}'..='\u{28ff}' => braille(c),
        c if c.is_whitespace() => ' ',
        _ => '?',
    }
}

/// A dot pattern by where its dots are: high, low, or both.
fn braille(c: char) -> char {
    let dots = c as u32 - 0x2800;
    let (top, bottom) = (dots & 0b0001_1011 != 0, dots & 0b1110_0100 != 0);
    match (top, bottom) {
        (true, false) => '\'',
        (false, true) => '.',
        _ => ':',
    }
}

#[cfg(test)]
mod tests {
    use ratatui::layout::Rect;
    use ratatui::style::Style;

    use super::*;

    #[test]
    fn everything_becomes_ascii() {
        let mut buf = Buffer::empty(Rect::new(0, 0, 20, 1));
        buf.set_string(0, 0, "╔═┐✗⣿⠁⢀λ界é▾", Style::new());
        transliterate(&mut buf);
        let text: String = buf
            .content
            .iter()
            .map(ratatui::buffer::Cell::symbol)
            .collect();
        assert!(text.is_ascii());
        assert!(text.starts_with("+=+x:'.L?"), "{text}");
    }
}
