//! What a layout must fulfil to run, with the numbers that disagree.

use super::Degrees;
use super::degrees::lcm;
use crate::base::Severity;
use crate::spec::TextConfig;

/// The sizes of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchShape {
    /// Tokens of a sequence.
    pub seq_length: usize,
    /// Sequences of a micro-batch.
    pub micro_batch_size: usize,
    /// Sequences of a step over all data-parallel ranks.
    pub global_batch_size: usize,
}

/// A rule that was checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// The rule with its numbers: `heads 16 % tp 2`.
    pub statement: String,
    /// What is wrong, if it does not hold.
    pub violation: Option<Violation>,
}

/// A rule that does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// A stable name of the rule: `heads-by-tp`.
    pub rule: &'static str,
    /// Errors keep a run from starting; warnings do not.
    pub severity: Severity,
    /// What is wrong, with the two numbers that disagree.
    pub message: String,
    /// Those numbers with their names, the one to change last where that is plain.
    pub numbers: [(String, usize); 2],
    /// The nearest legal values of [`key`](Self::key), smaller first.
    pub nearest: Vec<String>,
    /// The dotted recipe key that a user would change: `parallel.tp`.
    pub key: &'static str,
}

/// The rules that do not hold, errors and warnings.
pub fn check(config: &TextConfig, degrees: &Degrees, batch: &BatchShape) -> Vec<Violation> {
    rules(config, degrees, batch)
        .into_iter()
        .filter_map(|rule| rule.violation)
        .collect()
}

/// Every rule that applies, in the order that people read them: ranks, heads, sequence, layers, batch, MTP.
///
/// They are Megatron's, so that a layout that passes also starts there. A size out of range hides all other rules.
pub fn rules(config: &TextConfig, degrees: &Degrees, batch: &BatchShape) -> Vec<Rule> {
    let out_of_range = out_of_range(degrees, batch);
    if !out_of_range.is_empty() {
        return out_of_range;
    }
    let mut list = vec![world(degrees)];
    list.extend(heads(config, degrees));
    list.extend(sequence(config, degrees, batch));
    list.extend(layers(config, degrees, batch));
    list.extend(batches(degrees, batch));
    list
}

fn numbers(one: (&str, usize), other: (&str, usize)) -> [(String, usize); 2] {
    [one, other].map(|(name, value)| (name.to_owned(), value))
}

fn holds(statement: String) -> Rule {
    Rule {
        statement,
        violation: None,
    }
}

/// Which values of a key would do.
#[derive(Clone, Copy)]
enum Legal<'a> {
    /// Multiples of a number.
    MultipleOf(usize),
    /// Those of which it is true.
    If(&'a dyn Fn(usize) -> bool),
}

/// A rule that one number must divide another.
struct Division<'a> {
    rule: &'static str,
    /// The name of the dividend and its value.
    of: (&'a str, usize),
    /// The name of the divisor and its value.
    by: (&'a str, usize),
    /// The key to change, its value, and which other values would do.
    key: (&'static str, usize, Legal<'a>),
}

impl Division<'_> {
    fn check(self) -> Rule {
        let (of, value) = self.of;
        let (by, divisor) = self.by;
        let (key, current, legal) = self.key;
        let statement = format!("{of} {value} % {by} {divisor}");
        if value.is_multiple_of(divisor) {
            return holds(statement);
        }
        Rule {
            statement,
            violation: Some(Violation {
                rule: self.rule,
                severity: Severity::Error,
                message: format!("{of} = {value} is not divisible by {by} = {divisor}"),
                numbers: numbers((of, value), (by, divisor)),
                nearest: nearest(current, legal),
                key,
            }),
        }
    }
}

/// The closest legal value below and above, looking as far as twice the value.
fn nearest(current: usize, legal: Legal) -> Vec<String> {
    let (below, above) = match legal {
        Legal::MultipleOf(unit) => {
            let below = current / unit * unit;
            (Some(below).filter(|&n| n > 0), Some(below + unit))
        }
        Legal::If(legal) => (
            (1..current).rev().find(|&n| legal(n)),
            (current + 1..=2 * current.max(8)).find(|&n| legal(n)),
        ),
    };
    below
        .into_iter()
        .chain(above)
        .map(|n| n.to_string())
        .collect()
}

/// Sizes that are 0, or so large that their product could overflow.
fn out_of_range(degrees: &Degrees, batch: &BatchShape) -> Vec<Rule> {
    let sizes = [
        ("parallel.tp", degrees.tp, 1 << 15),
        ("parallel.cp", degrees.cp, 1 << 15),
        ("parallel.ep", degrees.ep, 1 << 15),
        ("parallel.etp", degrees.etp, 1 << 15),
        ("parallel.dp", degrees.dp, 1 << 15),
        ("parallel.pp", degrees.pp, 1 << 15),
        ("parallel.vpp", degrees.vpp, 1 << 15),
        ("train.seq_length", batch.seq_length, 1 << 30),
        ("train.micro_batch_size", batch.micro_batch_size, 1 << 30),
        ("train.global_batch_size", batch.global_batch_size, 1 << 30),
    ];
    let rule = |(key, size, most): (&'static str, usize, usize)| {
        let (must, bound, nearest) = match size {
            0 => ("at least 1".to_owned(), "least", 1),
            _ if size > most => (format!("at most {most}"), "most", most),
            _ => return None,
        };
        Some(Rule {
            statement: format!("{key} {must}"),
            violation: Some(Violation {
                rule: "range",
                severity: Severity::Error,
                message: format!("{key} = {size}, but it must be {must}"),
                numbers: numbers((key, size), (bound, nearest)),
                nearest: vec![nearest.to_string()],
                key,
            }),
        })
    };
    sizes.into_iter().filter_map(rule).collect()
}

fn world(degrees: &Degrees) -> Rule {
    let Degrees { tp, cp, dp, pp, .. } = degrees;
    holds(format!(
        "world {} = tp {tp} * cp {cp} * dp {dp} * pp {pp}",
        degrees.world_size()
    ))
}

/// Rules about what tensor, context and expert parallel cut.
fn heads(config: &TextConfig, degrees: &Degrees) -> Vec<Rule> {
    let (tp, cp) = (degrees.tp, degrees.cp);
    let heads = config.num_attention_heads;
    let kv = config.num_key_value_heads;
    let key_heads = config.linear_num_key_heads;
    let value_heads = config.linear_num_value_heads;
    let legal_tp = |n: usize| {
        heads.is_multiple_of(n)
            && (kv.is_multiple_of(n) || n.is_multiple_of(kv))
            && key_heads.is_multiple_of(n * cp)
            && value_heads.is_multiple_of(n * cp)
            && config.vocab_size.is_multiple_of(n)
            && config.hidden_size.is_multiple_of(n)
            && mlp(config).1.is_multiple_of(n)
    };
    let by_tp = |rule, name, value| {
        Division {
            rule,
            of: (name, value),
            by: ("tp", tp),
            key: ("parallel.tp", tp, Legal::If(&legal_tp)),
        }
        .check()
    };
    let legal_cp =
        |n: usize| key_heads.is_multiple_of(tp * n) && value_heads.is_multiple_of(tp * n);
    // Blame context parallel if tensor parallel alone would do.
    let blame = if cp > 1 && legal_tp_alone(config, tp) {
        ("parallel.cp", cp, Legal::If(&legal_cp))
    } else {
        ("parallel.tp", tp, Legal::If(&legal_tp))
    };
    let by_both = |rule, name, value| {
        Division {
            rule,
            of: (name, value),
            by: ("tp * cp", tp * cp),
            key: blame,
        }
        .check()
    };
    let (mlp, width) = mlp(config);
    let mut list = vec![
        by_tp("heads-by-tp", "num_attention_heads", heads),
        key_value(config, tp, &legal_tp),
        by_both("linear-key-heads", "linear_num_key_heads", key_heads),
        by_both("linear-value-heads", "linear_num_value_heads", value_heads),
        by_tp("mlp-by-tp", mlp, width),
        by_tp("vocab-by-tp", "vocab_size", config.vocab_size),
    ];
    if config.mtp_num_hidden_layers > 0 {
        // MTP's joint matrix is column parallel.
        list.push(by_tp("hidden-by-tp", "hidden_size", config.hidden_size));
    }
    list.extend(experts(config, degrees));
    list
}

/// The width that tensor parallel cuts in every layer: the MLP's, or the shared expert's.
fn mlp(config: &TextConfig) -> (&'static str, usize) {
    match &config.moe {
        None => ("intermediate_size", config.intermediate_size),
        Some(moe) => (
            "shared_expert_intermediate_size",
            moe.shared_expert_intermediate_size,
        ),
    }
}

/// Rules about routed experts.
fn experts(config: &TextConfig, degrees: &Degrees) -> Vec<Rule> {
    let Degrees {
        tp,
        cp,
        dp,
        ep,
        etp,
        ..
    } = *degrees;
    let Some(moe) = &config.moe else {
        return [("parallel.ep", "ep", ep), ("parallel.etp", "etp", etp)]
            .into_iter()
            .filter(|&(.., degree)| degree > 1)
            .map(|(key, name, degree)| Rule {
                statement: format!("{name} {degree} needs experts"),
                violation: Some(Violation {
                    rule: "no-experts",
                    severity: Severity::Error,
                    message: format!("{name} = {degree}, but a dense model has 0 experts"),
                    numbers: numbers((name, degree), ("experts", 0)),
                    nearest: vec!["1".into()],
                    key,
                }),
            })
            .collect();
    };
    let (all, width) = (moe.num_experts, moe.moe_intermediate_size);
    let ranks = tp * cp * dp;
    let legal_ep = |n: usize| all.is_multiple_of(n) && ranks.is_multiple_of(n * etp);
    let legal_etp = |n: usize| width.is_multiple_of(n) && ranks.is_multiple_of(ep * n);
    let ep_key = ("parallel.ep", ep, Legal::If(&legal_ep));
    let mut list = vec![
        Division {
            rule: "experts-by-ep",
            of: ("num_experts", all),
            by: ("ep", ep),
            key: ep_key,
        }
        .check(),
        Division {
            rule: "expert-width-by-etp",
            of: ("moe_intermediate_size", width),
            by: ("etp", etp),
            key: ("parallel.etp", etp, Legal::If(&legal_etp)),
        }
        .check(),
        Division {
            rule: "ranks-by-experts",
            of: ("tp * cp * dp", ranks),
            by: ("ep * etp", ep * etp),
            key: ep_key,
        }
        .check(),
    ];
    if tp > 1 {
        list.push(Rule {
            statement: format!("experts with tp {tp} > 1 need sequence_parallel"),
            violation: (!degrees.sequence_parallel).then(|| Violation {
                rule: "experts-need-sequence-parallel",
                severity: Severity::Error,
                message: format!(
                    "num_experts = {all} with tp = {tp} and sequence_parallel = false: Megatron trains experts with tp > 1 only if the sequence is cut over it"
                ),
                numbers: numbers(("num_experts", all), ("tp", tp)),
                nearest: vec!["true".into()],
                key: "parallel.sequence_parallel",
            }),
        });
    }
    list
}

fn legal_tp_alone(config: &TextConfig, tp: usize) -> bool {
    config.linear_num_key_heads.is_multiple_of(tp)
        && config.linear_num_value_heads.is_multiple_of(tp)
}

/// Key-value heads may be fewer than `tp`: then `tp / kv` ranks compute the same ones.
fn key_value(config: &TextConfig, tp: usize, legal_tp: &dyn Fn(usize) -> bool) -> Rule {
    let kv = config.num_key_value_heads;
    let statement = format!("num_key_value_heads {kv} % tp {tp}");
    if kv.is_multiple_of(tp) {
        return holds(statement);
    }
    let repeated = tp.is_multiple_of(kv) && config.num_attention_heads.is_multiple_of(tp);
    let violation = if repeated {
        Violation {
            rule: "kv-heads-by-tp",
            severity: Severity::Warning,
            message: format!(
                "tp = {tp} is above num_key_value_heads = {kv}: every key-value head is computed {} times",
                tp / kv
            ),
            numbers: numbers(("num_key_value_heads", kv), ("tp", tp)),
            nearest: vec![kv.to_string()],
            key: "parallel.tp",
        }
    } else {
        Violation {
            rule: "kv-heads-by-tp",
            severity: Severity::Error,
            message: format!(
                "num_key_value_heads = {kv} and tp = {tp}: one must be a multiple of the other"
            ),
            numbers: numbers(("num_key_value_heads", kv), ("tp", tp)),
            nearest: nearest(tp, Legal::If(legal_tp)),
            key: "parallel.tp",
        }
    };
    Rule {
        statement,
        violation: Some(violation),
    }
}

/// Rules about the length of a sequence.
fn sequence(config: &TextConfig, degrees: &Degrees, batch: &BatchShape) -> Vec<Rule> {
    let (tp, cp, seq) = (degrees.tp, degrees.cp, batch.seq_length);
    let mut list = Vec::new();
    let unit = match (cp > 1, degrees.sequence_parallel) {
        (true, true) => lcm(2 * cp, cp * tp),
        (true, false) => 2 * cp,
        (false, true) => tp,
        (false, false) => 1,
    };
    let key = ("train.seq_length", seq, Legal::MultipleOf(unit));
    if cp > 1 {
        let rule = Division {
            rule: "seq-by-cp",
            of: ("seq_length", seq),
            by: ("2 * cp", 2 * cp),
            key,
        };
        list.push(rule.check());
    }
    if degrees.sequence_parallel {
        let needs = format!("sequence_parallel needs tp {tp} > 1");
        list.push(Rule {
            violation: (tp == 1).then(|| Violation {
                rule: "sequence-parallel",
                severity: Severity::Error,
                message: "sequence_parallel = true, but tp = 1: there is nothing to cut the sequence over"
                    .into(),
                numbers: numbers(("sequence_parallel", 1), ("tp", tp)),
                nearest: vec!["false".into()],
                key: "parallel.sequence_parallel",
            }),
            statement: needs,
        });
        let by = if cp > 1 { "cp * tp" } else { "tp" };
        let rule = Division {
            rule: "seq-by-tp",
            of: ("seq_length", seq),
            by: (by, cp * tp),
            key,
        };
        list.push(rule.check());
    }
    let longest = config.max_position_embeddings;
    list.push(Rule {
        statement: format!("seq_length {seq} <= max_position_embeddings {longest}"),
        violation: (seq > longest).then(|| Violation {
            rule: "max-position",
            severity: Severity::Warning,
            message: format!(
                "seq_length = {seq} is above max_position_embeddings = {longest}: the model has not seen such positions"
            ),
            numbers: numbers(("max_position_embeddings", longest), ("seq_length", seq)),
            nearest: vec![longest.to_string()],
            key: "train.seq_length",
        }),
    });
    list
}

/// Rules about pipeline stages.
fn layers(config: &TextConfig, degrees: &Degrees, batch: &BatchShape) -> Vec<Rule> {
    let Degrees { pp, vpp, dp, .. } = *degrees;
    let layers = config.num_hidden_layers;
    let mut list = Vec::new();
    if pp > 1 {
        let rule = Division {
            rule: "layers-by-pp",
            of: ("num_hidden_layers", layers),
            by: ("pp", pp),
            key: (
                "parallel.pp",
                pp,
                Legal::If(&|n| layers.is_multiple_of(n * vpp)),
            ),
        };
        list.push(rule.check());
    }
    if vpp > 1 {
        list.push(Rule {
            statement: format!("vpp {vpp} needs pp {pp} > 1"),
            violation: (pp == 1).then(|| Violation {
                rule: "vpp-needs-pp",
                severity: Severity::Error,
                message: format!("vpp = {vpp}, but pp = 1: virtual stages need a pipeline"),
                numbers: numbers(("pp", pp), ("vpp", vpp)),
                nearest: vec!["1".into()],
                key: "parallel.vpp",
            }),
        });
        if layers.is_multiple_of(pp) {
            let rule = Division {
                rule: "layers-by-vpp",
                of: ("layers of a stage", layers / pp),
                by: ("vpp", vpp),
                key: (
                    "parallel.vpp",
                    vpp,
                    Legal::If(&|n| (layers / pp).is_multiple_of(n)),
                ),
            };
            list.push(rule.check());
        }
    }
    let step = batch.micro_batch_size * dp;
    if pp > 1 && batch.global_batch_size.is_multiple_of(step) {
        let micro_batches = batch.global_batch_size / step;
        if vpp > 1 {
            let rule = Division {
                rule: "micro-batches-by-pp",
                of: ("micro-batches", micro_batches),
                by: ("pp", pp),
                key: (
                    "train.global_batch_size",
                    batch.global_batch_size,
                    Legal::MultipleOf(step * pp),
                ),
            };
            list.push(rule.check());
        }
        list.push(Rule {
            statement: format!("micro-batches {micro_batches} >= pp {pp}"),
            violation: (micro_batches < pp).then(|| Violation {
                rule: "micro-batches-fill-pipeline",
                severity: Severity::Warning,
                message: format!(
                    "micro-batches = {micro_batches} are fewer than pp = {pp}: stages stand idle for {:.0} % of a step",
                    100.0 * (pp - 1) as f64 / (micro_batches + pp - 1) as f64
                ),
                numbers: numbers(("pp", pp), ("micro-batches", micro_batches)),
                nearest: vec![(step * pp).to_string()],
                key: "train.global_batch_size",
            }),
        });
    }
    if pp > 1 && config.mtp_num_hidden_layers > 0 {
        let depths = config.mtp_num_hidden_layers;
        list.push(Rule {
            statement: format!("{layers} layers / pp {pp} even, {depths} mtp on the last stage"),
            violation: Some(Violation {
                rule: "mtp-on-last-stage",
                severity: Severity::Warning,
                message: format!(
                    "mtp_num_hidden_layers = {depths} come on top of the last of pp = {pp} stages, which has the head too: it takes longest"
                ),
                numbers: numbers(("mtp_num_hidden_layers", depths), ("pp", pp)),
                nearest: Vec::new(),
                key: "parallel.pp",
            }),
        });
    }
    list
}

/// Rules about batch sizes.
fn batches(degrees: &Degrees, batch: &BatchShape) -> Vec<Rule> {
    let step = batch.micro_batch_size * degrees.dp;
    let rule = Division {
        rule: "global-batch",
        of: ("global_batch_size", batch.global_batch_size),
        by: ("micro_batch_size * dp", step),
        key: (
            "train.global_batch_size",
            batch.global_batch_size,
            Legal::MultipleOf(step),
        ),
    };
    vec![rule.check()]
}
