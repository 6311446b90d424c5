//! Files of a model on the Mapping screen: what is missing, wrong, or has no place; values.

use proptest::prelude::*;
use trestle::app::mapping::{
    Effect as Work, Files, Message as Mapping, Model, Numbers, Progress, Report, Standing, Stored,
    Values,
};
use trestle::app::{Code, Effect, Key, Message};
use trestle::base::{DType, Shape};
use trestle::mapping::{Found, Spelling, Table, View, audit};
use trestle::spec::{ExpertStyle, ModelConfig, find};

use super::{bench, label, labels, open};

/// The toy as a directory has it, after a change of what is stored.
pub(super) fn toy(change: impl Fn(&mut Vec<Stored>), megatron: bool) -> Model {
    let config: ModelConfig = find("toy").unwrap().text_only();
    let table = Table::new(&config, ExpertStyle::QWEN3_5);
    let view = if megatron {
        View::torch_dist(&table, config.text.vocab_size, Spelling::TransformerLayer)
    } else {
        View::huggingface(&table)
    };
    let mut stored: Vec<Stored> = view
        .tensors
        .iter()
        .map(|tensor| Stored {
            name: tensor.name.clone(),
            shape: tensor.shape.clone(),
            dtype: DType::BF16,
        })
        .collect();
    change(&mut stored);
    let found: Vec<Found> = stored
        .iter()
        .map(|stored| Found {
            name: &stored.name,
            shape: &stored.shape,
            dtype: stored.dtype,
        })
        .collect();
    let audit = audit(&table, &view, &found);
    let files = Files {
        path: "/models/toy".into(),
        format: if megatron { "torch_dist" } else { "hf" },
        layout: None,
        stored,
        view,
        audit,
    };
    Model::with_files("toy".into(), table, files)
}

/// A directory with a layer's norm gone, a matrix of another shape, a name that nothing knows, and no MTP.
fn broken(stored: &mut Vec<Stored>) {
    stored.retain(|s| s.name != "model.layers.1.input_layernorm.weight");
    stored.retain(|s| !s.name.starts_with("mtp."));
    for tensor in stored.iter_mut() {
        if tensor.name == "model.layers.3.self_attn.q_proj.weight" {
            tensor.shape = Shape(vec![64, 64]);
        }
    }
    stored.push(Stored {
        name: "model.layers.2.mlp.upp_proj.weight".into(),
        shape: Shape(vec![4, 4]),
        dtype: DType::BF16,
    });
}

#[test]
fn problems_of_a_directory_break_out_and_are_gone_through() {
    let mut bench = bench(120, 36);
    open(&mut bench, toy(broken, false));
    let counts = bench.state.mapping.model().unwrap().counts();
    // 15 tensors of MTP and a norm are missing; one is of another shape, one has no place.
    assert_eq!((counts.missing, counts.unmapped), (12 + 1, 2));
    insta::assert_snapshot!("mapping_problems_120x36", bench.text());
    let problems = bench.state.mapping.model().unwrap().problems().len();
    assert_eq!(problems, 15 + 3);
    let mut seen = Vec::new();
    for _ in 0..problems {
        bench.press("]");
        let screen = &bench.state.mapping;
        let item = screen.item().unwrap();
        assert_ne!(screen.model().unwrap().standing(item), Standing::Fine);
        let toast = bench.state.toast.as_ref().unwrap().text.clone();
        assert!(toast.contains(&format!("of {problems}: ")), "{toast}");
        seen.push(label(&bench));
    }
    for wanted in [
        "input_layernorm.weight",
        "q_proj.weight",
        "upp_proj.weight",
        "fc.weight",
    ] {
        assert!(
            seen.iter().any(|l| l.ends_with(wanted)),
            "{wanted} of {seen:?}"
        );
    }
    let (mut first, last) = (bench.state.mapping.cursor, problems - 1);
    bench.press("]");
    assert_ne!(bench.state.mapping.cursor, first);
    bench.press("[");
    assert_eq!(
        (bench.state.mapping.cursor, bench.state.mapping.problem),
        (first, Some(last))
    );
    // From Megatron's side too.
    bench.press("tab ]");
    first = bench.state.mapping.cursor;
    assert!(bench.state.mapping.row(first).is_some());
}

#[test]
fn unmapped_only_shows_what_is_wrong_and_nothing_else() {
    let mut bench = bench(120, 36);
    bench.press("u");
    let toast = bench.state.toast.as_ref().unwrap();
    assert!(toast.text.contains("no files are open"), "{}", toast.text);
    open(&mut bench, toy(broken, false));
    bench.press("u");
    let shown = labels(&bench);
    for wanted in ["q_proj", "upp_proj"] {
        assert!(
            shown.iter().any(|l| l.contains(wanted)),
            "{wanted} of {shown:?}"
        );
    }
    for other in ["embed_tokens", "A_log", "in_proj_z"] {
        assert!(
            !shown.iter().any(|l| l.contains(other)),
            "{other} of {shown:?}"
        );
    }
    insta::assert_snapshot!("mapping_unmapped_only_120x36", bench.text());
    bench.press("tab");
    assert!(
        labels(&bench).iter().any(|l| l.contains("linear_qkv")),
        "{:?}",
        labels(&bench)
    );
    bench.press("u");
    assert!(labels(&bench).len() > 3);
}

#[test]
fn a_megatron_directory_leads_with_its_side_and_knows_every_tensor() {
    let mut bench = bench(120, 36);
    open(&mut bench, toy(|_| {}, true));
    let model = bench.state.mapping.model().unwrap().clone();
    let counts = model.counts();
    assert_eq!(
        (counts.fine, counts.missing, counts.unmapped),
        (counts.megatron, 0, 0)
    );
    assert!(
        bench.text().contains("Megatron side, toy"),
        "{}",
        bench.text()
    );
    open(
        &mut bench,
        toy(
            |stored| {
                stored.retain(|s| {
                    !s.name
                        .contains("layers.0.self_attention.in_proj.weight.beta")
                });
                stored[0].name = "nonsense".into();
            },
            true,
        ),
    );
    let model = bench.state.mapping.model().unwrap().clone();
    assert_eq!(model.counts().missing, 2, "in_proj and the embedding");
    assert_eq!(model.counts().unmapped, 1);
    for _ in 0..3 {
        bench.press("]");
    }
    insta::assert_snapshot!("mapping_megatron_problems_120x36", bench.text());
}

#[test]
fn values_are_read_when_asked_and_given_up_with_esc() {
    let mut bench = bench(120, 36);
    bench.press("i");
    let toast = bench.state.toast.as_ref().unwrap();
    assert!(toast.text.contains("no files are open"), "{}", toast.text);
    open(&mut bench, toy(|_| {}, false));
    bench.press("/");
    bench.send(Message::Paste("layers.0.linear_attn.A_log".into()));
    bench.press("enter esc");
    let effects = bench.press("i");
    let [Effect::Mapping(Work::Values(of))] = &effects[..] else {
        panic!("{effects:?}");
    };
    let of = of.clone();
    let model = bench.state.mapping.model().unwrap().clone();
    let stored = &model.files.as_ref().unwrap().stored[of.stored];
    assert_eq!(stored.name, "model.layers.0.linear_attn.A_log");
    assert!(bench.text().contains("reading; esc gives up"));
    assert_eq!(bench.press("esc"), [Effect::Mapping(Work::StopValues)]);
    assert!(!bench.text().contains("reading"));
    bench.press("i");
    let values = Values {
        elements: 2048,
        zeros: 3,
        nan: 1,
        infinite: 0,
        numbers: Some(Numbers {
            min: -0.412,
            max: 0.398,
            mean: 1.1e-5,
            std: 0.021,
        }),
        histogram: (0..64).map(|i: u64| 1024 - i.abs_diff(32).pow(2)).collect(),
    };
    bench.send(Message::Mapping(Mapping::Values(
        of.clone(),
        Ok(Some(values)),
    )));
    insta::assert_snapshot!("mapping_values_120x36", bench.text());
    bench.press("i");
    bench.send(Message::Mapping(Mapping::Values(
        of,
        Err("the disk is gone".into()),
    )));
    assert!(bench.text().contains("the disk is gone"));
}

#[test]
fn a_round_trip_is_verified_from_the_screen_and_can_be_given_up() {
    let mut bench = bench(120, 36);
    bench.press("v");
    let toast = bench.state.toast.as_ref().unwrap().text.clone();
    assert!(toast.contains("no files are open"), "{toast}");
    open(&mut bench, toy(|_| {}, false));
    bench.press("+");
    let effects = bench.press("v");
    let [Effect::Mapping(Work::Verify { layout, .. })] = &effects[..] else {
        panic!("{effects:?}");
    };
    assert_eq!(layout.options.tp, 2);
    let progress = Progress {
        done: 3 << 20,
        total: 12 << 20,
    };
    bench.send(Message::Mapping(Mapping::Verifying(progress)));
    insta::assert_snapshot!("mapping_verifying_120x36", bench.text());
    bench.press("v");
    let toast = bench.state.toast.as_ref().unwrap().text.clone();
    assert!(toast.contains("at work"), "{toast}");
    assert_eq!(bench.press("esc"), [Effect::Mapping(Work::StopVerify)]);
    assert!(!bench.text().contains("verifying"));

    bench.press("v");
    // What the one before says when it stops is not about this one.
    bench.send(Message::Mapping(Mapping::Verified(Ok(None))));
    assert!(bench.text().contains("verifying"));
    let report = Report {
        exact: 70,
        rounded: Vec::new(),
        different: vec![("lm_head.weight".into(), "1 of 4 differ".into())],
    };
    bench.send(Message::Mapping(Mapping::Verified(Ok(Some(report)))));
    let text = bench.text();
    assert!(
        text.contains("70 bit-exact, 0 rounded, 1 different"),
        "{text}"
    );
    assert!(text.contains("lm_head.weight: 1 of 4 differ"), "{text}");
    bench.press("/ l m _ h e a d enter esc");
    assert!(
        bench
            .text()
            .contains("there, back  ✗ lm_head.weight: 1 of 4"),
        "{}",
        bench.text()
    );
    bench.press("/ e m b e d _ t o k enter esc");
    assert!(
        bench.text().contains("✓ verified: the same bits"),
        "{}",
        bench.text()
    );

    // Files with problems are no model to send round.
    open(&mut bench, toy(broken, false));
    bench.press("v");
    let toast = bench.state.toast.as_ref().unwrap().text.clone();
    assert!(toast.contains("the files have problems"), "{toast}");
}

fn key() -> impl Strategy<Value = Key> {
    let code = prop_oneof![
        6 => prop::sample::select("jkhlgGusivt#a+-r[]/nNxYzo?edfv0,5".chars().collect::<Vec<_>>())
            .prop_map(Code::Char),
        3 => prop::sample::select(vec![
            Code::Enter, Code::Esc, Code::Tab, Code::BackTab, Code::Up, Code::Down, Code::Left,
            Code::Right, Code::Home, Code::End, Code::PageUp, Code::PageDown, Code::Backspace,
        ]),
    ];
    code.prop_map(|code| Key {
        code,
        ctrl: false,
        alt: false,
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn nothing_pressed_over_files_with_problems_panics(
        keys in prop::collection::vec(key(), 1..120),
        (width, height) in (30..130u16, 6..45u16),
        megatron in any::<bool>(),
    ) {
        let mut bench = bench(width, height);
        open(&mut bench, toy(broken, megatron));
        for key in keys {
            bench.send(Message::Key(key));
            let first = bench.text();
            prop_assert_eq!(first, bench.text());
            prop_assert!(bench.state.mapping.cursor <= bench.state.mapping.len());
        }
    }
}
