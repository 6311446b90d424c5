//! Conditions on products of 8-bit floats.
//!
//! Transformer Engine multiplies matrices `[rows, columns]` in fp8 if rows are a multiple of 8 and columns of 16, operands and gradients alike.

use super::{Fix, Job, Problem, problem};
use crate::base::Severity;
use crate::plan::Degrees;

pub(super) fn add(job: &Job, list: &mut Vec<Problem>) {
    if !job.megatron.precision.is_fp8() {
        return;
    }
    let text = &job.model.text;
    let Degrees { tp, cp, etp, .. } = job.degrees;
    let bf16 = || Fix::new("megatron.precision", "bf16_mixed");
    let heads = text.num_attention_heads.saturating_mul(text.head_dim);
    let mut columns = vec![
        ("hidden_size", text.hidden_size),
        ("num_attention_heads * head_dim / tp", heads / tp),
        (
            "linear_num_value_heads * linear_value_head_dim / tp",
            text.linear_value_dim() / tp,
        ),
    ];
    match &text.moe {
        None => columns.push(("intermediate_size / tp", text.intermediate_size / tp)),
        Some(moe) => columns.extend([
            (
                "shared_expert_intermediate_size / tp",
                moe.shared_expert_intermediate_size / tp,
            ),
            (
                "moe_intermediate_size / etp",
                moe.moe_intermediate_size / etp,
            ),
        ]),
    }
    for (name, value) in columns {
        if !value.is_multiple_of(16) {
            list.push(problem(
                "fp8-columns",
                Severity::Error,
                format!("fp8 products need columns in multiples of 16, but {name} = {value}"),
                [(name, value), ("fp8 columns", 16)],
                vec![bf16()],
            ));
        }
    }
    let rows =
        (text.linear_conv_dim() + text.linear_value_dim() + 2 * text.linear_num_value_heads) / tp;
    let tokens = job
        .batch
        .seq_length
        .saturating_mul(job.batch.micro_batch_size)
        / cp;
    for (name, value) in [
        ("rows of in_proj / tp", rows),
        ("tokens of a micro-batch / cp", tokens),
    ] {
        if !value.is_multiple_of(8) {
            list.push(problem(
                "fp8-rows",
                Severity::Error,
                format!("fp8 products need rows in multiples of 8, but {name} = {value}"),
                [(name, value), ("fp8 rows", 8)],
                vec![bf16()],
            ));
        }
    }
}
