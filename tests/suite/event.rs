//! The run protocol: print then parse, torn and foreign input, TensorBoard bytes.

use std::collections::BTreeMap;

use proptest::prelude::*;
use trestle::event::{
    DepthStep, Event, MEMORY_TERMS, MemoryTerm, MemoryUse, RankMemory, Record, Request,
    RequestKind, StepRecord, StopKind, VERSION, complete_lines, parse_line, parse_request,
    tensorboard,
};

fn float() -> impl Strategy<Value = f64> {
    prop_oneof![
        any::<f64>(),
        Just(f64::NAN),
        Just(f64::INFINITY),
        -10.0..10.0f64
    ]
}

fn depth() -> impl Strategy<Value = DepthStep> {
    (float(), any::<u64>(), any::<u64>()).prop_map(|(loss, correct, total)| DepthStep {
        loss,
        correct,
        total,
    })
}

fn memory(counts: [u64; 5]) -> MemoryUse {
    let term = |(i, name): (usize, &str)| MemoryTerm {
        name: name.to_owned(),
        planned: (i != 1).then_some(counts[i % 5]),
        measured: (i % 3 != 0).then_some(counts[4 - i % 5]),
    };
    MemoryUse {
        device: "cuda:0 \"a\"".into(),
        terms: MEMORY_TERMS.into_iter().enumerate().map(term).collect(),
        planned_peak: counts[0],
        peak: counts[1],
        reserved: counts[2],
        driver_used: counts[3],
        driver_total: counts[4],
        ranks: vec![
            RankMemory {
                rank: counts[0] as u32,
                peak: counts[1],
                ..RankMemory::default()
            };
            counts[2] as usize % 3
        ],
    }
}

fn step_record() -> impl Strategy<Value = StepRecord> {
    let parts = prop::collection::btree_map("[a-z_]{1,12}", float(), 0..4);
    (
        any::<[u64; 5]>(),
        prop::array::uniform7(float()),
        prop::collection::vec(depth(), 0..3),
        parts,
        any::<bool>(),
    )
        .prop_map(|(counts, floats, mtp, parts, skipped)| StepRecord {
            step: counts[0],
            tokens: counts[1],
            loss: floats[0],
            mtp,
            grad_norm: floats[1],
            lr: floats[2],
            mtp_loss_scale: floats[3],
            step_seconds: floats[4],
            parts,
            tokens_per_second: floats[5],
            mfu: floats[6],
            hfu: -floats[6],
            allocated: counts[2],
            peak: counts[3],
            rss: counts[4],
            memory: skipped.then(|| memory(counts)),
            graphs: counts[0] % 3,
            skipped,
            extra: if skipped {
                [("z_loss".to_owned(), floats[5])].into()
            } else {
                BTreeMap::new()
            },
        })
}

fn event() -> impl Strategy<Value = Event> {
    let text = any::<String>;
    let n = any::<u64>;
    prop_oneof![
        step_record().prop_map(|s| Event::Step(Box::new(s))),
        (
            n(),
            n(),
            float(),
            prop::collection::vec(depth(), 0..3),
            float()
        )
            .prop_map(|(step, tokens, loss, mtp, seconds)| Event::Eval {
                step,
                tokens,
                loss,
                mtp,
                eval_tokens: tokens,
                seconds,
            }),
        (any::<u32>(), n(), text(), float(), prop::option::of(text())).prop_map(
            |(segment, step, host, flops, resumed_from)| Event::Started {
                segment,
                step,
                tokens: step,
                total_steps: step,
                pid: segment,
                host: host.clone(),
                device: host.clone(),
                program: host.clone(),
                parameters: step,
                mtp_parameters: step,
                flops_per_token: flops,
                peak_flops: flops,
                flops_formula: host.clone(),
                peak_name: host.clone(),
                precision: String::new(),
                devices: vec![String::new(); segment as usize % 3],
                memory_plan: (step % 2 == 0).then(|| memory([step; 5]).terms),
                mtp_depth: 2,
                resumed_from,
            }
        ),
        (n(), text(), float(), prop::collection::vec(text(), 0..3)).prop_map(
            |(step, path, seconds, removed)| Event::Checkpoint {
                step,
                weights_hash: path.clone(),
                path,
                bytes: step,
                seconds,
                removed,
            }
        ),
        (n(), text(), text()).prop_map(|(step, code, message)| Event::Warning {
            step,
            code,
            message
        }),
        (n(), text(), text()).prop_map(|(step, prompt, text)| Event::Sample { step, prompt, text }),
        (n(), text(), text()).prop_map(|(step, key, to)| Event::LiveChange {
            step,
            from: key.clone(),
            key,
            to
        }),
        (n(), text()).prop_map(|(step, note)| Event::Mark { step, note }),
        n().prop_map(|step| Event::Paused { step }),
        n().prop_map(|step| Event::Continued { step }),
        (n(), text(), any::<bool>()).prop_map(|(step, message, ok)| Event::Answer {
            request: message.clone(),
            step,
            ok,
            message
        }),
        (n(), text()).prop_map(|(step, reason)| Event::Finished {
            step,
            tokens: step,
            weights_hash: reason.clone(),
            reason,
        }),
        (n(), text(), prop::option::of(text())).prop_map(|(step, error, hint)| Event::Failed {
            step,
            error,
            hint
        }),
        text().prop_map(|t| Event::Unknown(serde_json::json!({"type": "holiday", "where": t}))),
    ]
}

fn record() -> impl Strategy<Value = Record> {
    (any::<u64>(), any::<i64>(), event()).prop_map(|(seq, time_ms, event)| Record {
        v: VERSION,
        seq,
        time_ms,
        event,
    })
}

proptest! {
    #[test]
    fn any_record_is_one_line_and_parses_back(record in record()) {
        let line = record.to_line();
        prop_assert_eq!(line.matches('\n').count(), 1);
        let back = parse_line(&line).expect("own line");
        // NaN differs from itself, so compare what is written; infinities are written as null too.
        prop_assert_eq!(back.to_line(), line);
        if !record.to_line().contains("null") {
            prop_assert_eq!(back, record);
        }
    }

    #[test]
    fn a_torn_line_is_never_a_record(record in record(), cut in 0.0..1.0f64) {
        let line = record.to_line();
        let mut end = (cut * (line.len() - 1) as f64) as usize;
        while !line.is_char_boundary(end) {
            end -= 1;
        }
        let torn = &line[..end];
        prop_assert!(complete_lines(torn.as_bytes()).0.is_empty());
        if end + 1 < line.len() {
            prop_assert!(parse_line(torn).is_err(), "{}", torn);
        }
    }

    #[test]
    fn arbitrary_text_never_panics(text in any::<String>(), bytes in any::<Vec<u8>>()) {
        let _ = parse_line(&text);
        let _ = parse_request(&text);
        let _ = complete_lines(&bytes);
        let _ = tensorboard::decode(&bytes);
    }

    #[test]
    fn any_request_is_one_line_and_parses_back(
        id in any::<String>(), time_ms in any::<i64>(), text in any::<String>(), pick in 0..8usize,
    ) {
        let kind = match pick {
            0 => RequestKind::Pause,
            1 => RequestKind::Continue,
            2 => RequestKind::Checkpoint,
            3 => RequestKind::Set { key: text.clone(), value: text },
            4 => RequestKind::Mark { note: text },
            5 => RequestKind::Stop { how: StopKind::Save },
            6 => RequestKind::Stop { how: StopKind::Step },
            _ => RequestKind::Stop { how: StopKind::Now },
        };
        let request = Request { id, time_ms, kind };
        let line = request.to_line();
        prop_assert_eq!(line.matches('\n').count(), 1);
        prop_assert_eq!(parse_request(&line).expect("own line"), request);
    }

    #[test]
    fn scalars_are_decoded_as_they_were_encoded(
        wall_time in 0.0..1e10f64,
        step in any::<i64>(),
        values in prop::collection::btree_map(any::<String>(), -1e30..1e30f32, 0..6),
        torn in 0..20usize,
    ) {
        let scalars: Vec<(&str, f32)> = values.iter().map(|(k, v)| (k.as_str(), *v)).collect();
        let mut file = tensorboard::encode_file_version(wall_time);
        file.extend(tensorboard::encode_scalars(wall_time, step, &scalars));
        let complete = file.len();
        let next = tensorboard::encode_scalars(wall_time, step, &scalars);
        file.extend(&next[..torn.min(next.len() - 1)]);
        let (back, used) = tensorboard::decode(&file).expect("own bytes");
        prop_assert_eq!(used, complete);
        let back: BTreeMap<String, f32> = back.into_iter().map(|s| (s.tag, s.value)).collect();
        prop_assert_eq!(back, values);
    }
}

#[test]
fn a_flipped_bit_in_a_tensorboard_file_is_noticed() {
    let mut file = tensorboard::encode_scalars(1.0, 2, &[("lm loss", 3.0)]);
    for byte in 0..file.len() {
        file[byte] ^= 4;
        assert!(
            tensorboard::decode(&file).is_err(),
            "a flip in byte {byte} passed"
        );
        file[byte] ^= 4;
    }
}

#[test]
fn non_finite_floats_are_written_as_null() {
    let record = Record {
        v: VERSION,
        seq: 0,
        time_ms: 0,
        event: Event::Step(Box::new(StepRecord {
            loss: f64::NAN,
            grad_norm: f64::INFINITY,
            ..StepRecord::default()
        })),
    };
    let line = record.to_line();
    assert!(
        line.contains("\"loss\":null") && line.contains("\"grad_norm\":null"),
        "{line}"
    );
    let Event::Step(step) = parse_line(&line).expect("own line").event else {
        panic!("not a step");
    };
    assert!(step.loss.is_nan() && step.grad_norm.is_nan());
}

#[test]
fn a_step_without_new_fields_is_read_with_defaults() {
    let line = r#"{"v":1,"seq":3,"time_ms":5,"type":"step","step":9,"loss":2.5,"later":true}"#;
    let record = parse_line(line).expect("additive changes keep the version");
    let Event::Step(step) = record.event else {
        panic!("not a step");
    };
    assert_eq!((step.step, step.loss, step.tokens), (9, 2.5, 0));
}

#[test]
fn lines_from_before_the_engine_read_with_its_fields_absent() {
    let line = r#"{"v":1,"seq":0,"time_ms":5,"type":"started","segment":0,"step":0,"tokens":0,"total_steps":9,"pid":1,"host":"h","device":"cpu (2 threads)","program":"trestle 0.1.0","parameters":7,"mtp_parameters":0,"flops_per_token":1.0,"peak_flops":2.0,"mtp_depth":0,"resumed_from":null}"#;
    let record = parse_line(line).unwrap();
    let Event::Started {
        flops_formula,
        peak_name,
        precision,
        devices,
        memory_plan,
        ..
    } = &record.event
    else {
        panic!("{record:?}");
    };
    assert!(flops_formula.is_empty() && peak_name.is_empty() && precision.is_empty());
    assert!(devices.is_empty() && memory_plan.is_none());
    // And it is written as it was, so that a reader from before reads what an old trainer would have written.
    assert_eq!(record.to_line().trim_end(), line);
    let line =
        r#"{"v":1,"seq":1,"time_ms":5,"type":"step","step":1,"tokens":8,"loss":2.0,"mfu":0.1}"#;
    let Event::Step(step) = parse_line(line).unwrap().event else {
        panic!("not a step");
    };
    assert_eq!((step.hfu, step.memory), (0.0, None));
}
