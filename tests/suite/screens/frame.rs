//! Tab bar, status line, palette, help, small terminals.

use trestle::app::{Action, Background, Effect, Message, Mouse, Screen, Size};
use trestle::tui::theme::{Capabilities, Depth};

use super::fixture::{Bench, COLOURS};

#[test]
fn the_first_frame_shows_the_recipes_at_every_size() {
    for (width, height) in [(40, 10), (80, 24), (120, 36)] {
        let bench = Bench::new(width, height);
        insta::assert_snapshot!(format!("recipes_{width}x{height}"), bench.text());
    }
}

#[test]
fn styles_differ_by_background_only_in_colour() {
    let dark = Bench::new(80, 24);
    insta::assert_snapshot!("recipes_80x24_dark_styles", dark.styles());
    let light = Bench::new(80, 24).with(COLOURS, Background::Light);
    assert_eq!(dark.text(), light.text());
    assert_ne!(dark.styles(), light.styles());
}

#[test]
fn without_colour_and_unicode_everything_is_still_said() {
    let plain = Capabilities {
        depth: Depth::None,
        ascii: true,
        background: None,
    };
    let bench = Bench::new(80, 24).with(plain, Background::Dark);
    let text = bench.text();
    assert!(text.is_ascii());
    assert!(!bench.styles().contains("Indexed"));
    insta::assert_snapshot!("recipes_80x24_ascii", text);
}

#[test]
fn a_terminal_that_is_too_small_says_so_and_still_quits() {
    let mut bench = Bench::new(29, 5);
    assert!(bench.text().contains("needs 30x6, have 29x5"));
    assert_eq!(bench.press("q"), [Effect::Quit]);
    for (width, height) in [(0, 0), (1, 1), (0, 9), (9, 0)] {
        bench.send(Message::Resize(Size { width, height }));
        bench.text();
    }
}

#[test]
fn help_lists_the_keys_of_the_screen_and_runs_one() {
    let mut bench = Bench::new(120, 36);
    bench.press("?");
    insta::assert_snapshot!("help_120x36", bench.text());
    bench.press("m a x i m enter");
    assert!(bench.state.maximised);
    assert!(bench.state.dialogs.is_empty());
}

#[test]
fn the_palette_runs_actions_by_name_and_says_why_one_cannot_run() {
    let mut bench = Bench::new(120, 36);
    bench.press(": t h e m e");
    insta::assert_snapshot!("palette_120x36", bench.text());
    bench.press("enter");
    assert_eq!(bench.state.background, Background::Light);
    bench.press(": p a u s e enter");
    let toast = bench.state.toast.as_ref().unwrap();
    assert!(toast.text.contains("on the Train screen"), "{}", toast.text);
}

#[test]
fn every_action_is_in_the_palette_with_its_key() {
    let bench = Bench::new(80, 24);
    let lines = trestle::app::palette::matches(&bench.state, "");
    assert_eq!(lines.len(), Action::ALL.len());
}

#[test]
fn tabs_and_rows_can_be_clicked() {
    let mut bench = Bench::new(120, 36);
    let (buf, hits) = bench.buffer();
    let row: String = (0..buf.area.width).map(|x| buf[(x, 0)].symbol()).collect();
    let x = row.find("5 Runs").unwrap() as u16;
    let target = hits.at(x, 0).unwrap();
    bench.send(Message::Mouse(Mouse::Click, target));
    assert_eq!(bench.state.screen, Screen::Runs);
    bench.press("1");
    let (buf, hits) = bench.buffer();
    let y = (0..buf.area.height)
        .find(|&y| {
            let row: String = (0..30).map(|x| buf[(x, y)].symbol()).collect();
            row.contains("broken.toml")
        })
        .unwrap();
    bench.press("G");
    bench.send(Message::Mouse(Mouse::Click, hits.at(5, y).unwrap()));
    assert_eq!(bench.state.recipes.selected().unwrap().name, "broken.toml");
}

#[test]
fn a_toast_goes_after_four_seconds() {
    let mut bench = Bench::new(80, 24);
    bench.press("F");
    assert!(bench.state.toast.is_some());
    assert!(bench.state.needs_ticks());
    for (now_ms, is_there) in [(3999, true), (4001, false)] {
        bench.state.dirty = false;
        bench.send(Message::Tick { now_ms, wall_ms: 0 });
        assert_eq!(bench.state.toast.is_some(), is_there);
        assert_eq!(bench.state.dirty, !is_there);
    }
    assert!(!bench.state.needs_ticks());
}
