//! Any keys on any size: no panic, and drawing never changes the state.

use proptest::prelude::*;
use trestle::app::{Code, Key, Message, Mouse, Size};

use super::fixture::Bench;

fn key() -> impl Strategy<Value = Key> {
    let code = prop_oneof![
        8 => proptest::char::range(' ', '~').prop_map(Code::Char),
        3 => prop::sample::select(vec![
            Code::Enter, Code::Esc, Code::Tab, Code::BackTab, Code::Up, Code::Down, Code::Left,
            Code::Right, Code::Home, Code::End, Code::PageUp, Code::PageDown, Code::Backspace,
            Code::Delete, Code::F(5),
        ]),
        1 => any::<char>().prop_map(Code::Char),
    ];
    (code, prop::bool::weighted(0.1), prop::bool::weighted(0.05))
        .prop_map(|(code, ctrl, alt)| Key { code, ctrl, alt })
}

#[derive(Debug, Clone)]
enum Step {
    Key(Key),
    Resize(u16, u16),
    Click(u16, u16),
    Wheel(u16, u16),
    Paste(String),
    Save(usize, String),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => key().prop_map(Step::Key),
        2 => (0..200u16, 0..60u16).prop_map(|(w, h)| Step::Resize(w, h)),
        1 => prop::sample::select(vec![(0, 0), (1, 1), (30, 6), (29, 6), (60, 16), (100, 30)])
            .prop_map(|(w, h)| Step::Resize(w, h)),
        2 => (0..120u16, 0..36u16).prop_map(|(x, y)| Step::Click(x, y)),
        1 => (0..120u16, 0..36u16).prop_map(|(x, y)| Step::Wheel(x, y)),
        1 => ".{0,12}".prop_map(Step::Paste),
        1 => (0..4usize, "(\\[?[a-z_]{1,9}\\]?( = [0-9\"é]{0,4})?\n){0,5}")
            .prop_map(|(i, text)| Step::Save(i, text)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn nothing_a_user_does_panics(steps in prop::collection::vec(step(), 1..80)) {
        let mut bench = Bench::new(80, 24);
        for step in steps {
            match step {
                Step::Key(key) => {
                    bench.send(Message::Key(key));
                }
                Step::Resize(width, height) => {
                    bench.send(Message::Resize(Size { width, height }));
                }
                Step::Click(x, y) | Step::Wheel(x, y) => {
                    let mouse = if matches!(step, Step::Click(..)) {
                        Mouse::Click
                    } else {
                        Mouse::WheelDown
                    };
                    if let Some(target) = bench.buffer().1.at(x, y) {
                        bench.send(Message::Mouse(mouse, target));
                    }
                }
                Step::Paste(text) => {
                    bench.send(Message::Paste(text));
                }
                Step::Save(i, text) => {
                    let names = ["demo.toml", "broken.toml", "ablations/mtp2.toml", "new.toml"];
                    bench.save(names[i], &text);
                }
            }
            let first = bench.text();
            prop_assert_eq!(first, bench.text());
        }
    }
}
