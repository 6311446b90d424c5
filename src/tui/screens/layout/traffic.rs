//! What the rank under the cursor sends in a step: collective, group, link, bytes, time.

use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use crate::app::layout::{Pane, View, seconds};
use crate::app::{State, Target, list};
use crate::base::Bytes;
use crate::plan::{LinkKind, Traffic};
use crate::tui::canvas::Canvas;
use crate::tui::widgets::wrap;

fn link(kind: LinkKind) -> &'static str {
    match kind {
        LinkKind::NvLink => "NVLink",
        LinkKind::Infiniband => "InfiniBand",
    }
}

pub(super) fn draw(state: &State, canvas: &mut Canvas, area: Rect, view: &View) {
    let theme = canvas.theme;
    let screen = &state.layout;
    let focused = screen.focus == Pane::Traffic;
    let stage = view.stage_of(screen.rank);
    let rows: &[Traffic] = match &view.plan {
        Ok(plan) => plan.time.stages.get(stage).map_or(&[], |s| &s.traffic),
        Err(_) => &[],
    };
    let bytes = rows
        .iter()
        .fold(0u64, |sum, row| sum.saturating_add(row.bytes.0));
    let time: f64 = rows.iter().map(|row| row.seconds).sum();
    let right = format!("{} in {}", Bytes(bytes), seconds(time));
    let title = format!("Traffic of a rank of pp {stage} in a step");
    let inner = canvas.pane(area, Pane::Traffic as usize, focused, title, right);
    if rows.is_empty() {
        let text = match &view.plan {
            Ok(_) => "nothing is sent".to_owned(),
            Err(error) => error.to_string(),
        };
        canvas.line(inner, 0, Span::styled(format!(" {text}"), theme.dim));
        return;
    }
    let wide = inner.width >= 66;
    let head = if wide {
        format!(
            " {:<28} {:>5} {:>5}  {:<10} {:>10} {:>9}",
            "collective", "group", "ranks", "link", "bytes", "time"
        )
    } else {
        format!(
            " {:<18} {:>5} {:>10} {:>9}",
            "collective", "link", "bytes", "time"
        )
    };
    canvas.line(inner, 0, Span::styled(head, theme.title));
    let cursor = screen.traffic.min(rows.len() - 1);
    let mut below = wrap(
        &rows[cursor].formula,
        usize::from(inner.width).saturating_sub(2),
    );
    below.truncate(usize::from(inner.height.saturating_sub(2)) / 2);
    let height = usize::from(inner.height.saturating_sub(1)).saturating_sub(below.len());
    let first = list::offset(cursor, rows.len(), height);
    for (at, row) in rows.iter().enumerate().skip(first).take(height) {
        let y = (at - first) as u16 + 1;
        let text = if wide {
            format!(
                " {:<28} {:>5} {:>5}  {:<10} {:>10} {:>9}",
                row.name,
                row.group.name(),
                row.ranks,
                link(row.link),
                row.bytes.to_string(),
                seconds(row.seconds)
            )
        } else {
            let short: String = row.name.chars().take(18).collect();
            let link = match row.link {
                LinkKind::NvLink => "NVL",
                LinkKind::Infiniband => "IB",
            };
            format!(
                " {short:<18} {link:>5} {:>10} {:>9}",
                row.bytes.to_string(),
                seconds(row.seconds)
            )
        };
        let style = match row.link {
            LinkKind::NvLink => theme.text,
            LinkKind::Infiniband => theme.warning,
        };
        canvas.line(inner, y, Line::styled(text, style));
        if at == cursor && focused {
            canvas.row_style(inner, y, theme.selection);
        }
        let place = Rect::new(inner.x, inner.y + y, inner.width, 1);
        canvas
            .hits
            .add(place, Target::Row(Pane::Traffic as usize, at));
    }
    for (i, line) in below.into_iter().enumerate() {
        let line = Span::styled(format!(" {line}"), theme.dim);
        canvas.line(inner, (height + 1 + i) as u16, line);
    }
}
