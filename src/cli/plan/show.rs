//! A plan, problems, or the layouts that fit, as text and as JSON.

use std::fmt::Write;

use serde_json::{Value, json};

use crate::base::{Bytes, Severity};
use crate::cli::arguments::PlanArguments;
use crate::cli::output::{Output, Tone};
use crate::cli::{Context, Outcome};
use crate::plan::{
    Counted, Degrees, Found, Group, Job, Machine, MegatronRecompute, MemoryEstimate, Plan, Problem,
    theoretical,
};

/// `tp 2 cp 1 ep 8 etp 1 dp 4 pp 2 vpp 1`.
fn degrees_line(d: &Degrees) -> String {
    format!(
        "tp {} cp {} ep {} etp {} dp {} pp {} vpp {}",
        d.tp, d.cp, d.ep, d.etp, d.dp, d.pp, d.vpp
    )
}

fn degrees_json(d: &Degrees) -> Value {
    json!({
        "tp": d.tp, "cp": d.cp, "ep": d.ep, "etp": d.etp, "dp": d.dp, "pp": d.pp, "vpp": d.vpp,
        "sequence_parallel": d.sequence_parallel,
    })
}

fn recompute_name(recompute: &MegatronRecompute) -> &'static str {
    match recompute {
        MegatronRecompute::None => "none",
        MegatronRecompute::Selective(_) => "selective",
        MegatronRecompute::Full { .. } => "full",
    }
}

fn problem_lines(problems: &[Problem], out: &Output) -> String {
    let mut text = String::new();
    for problem in problems {
        let (word, tone) = match problem.severity {
            Severity::Error => ("error", Tone::Error),
            Severity::Warning => ("warning", Tone::Warning),
        };
        let head = out.paint(tone, format!("{word}[{}]", problem.code));
        let _ = writeln!(text, "{head}: {}", problem.message);
        for fix in &problem.fixes {
            let also: Vec<_> = fix
                .also
                .iter()
                .map(|(key, value)| format!(", {key} = {value}"))
                .collect();
            let _ = writeln!(text, "  fix: {} = {}{}", fix.key, fix.value, also.concat());
        }
    }
    text
}

/// Problems alone, of a job that has no plan.
pub(super) fn problems(list: &[Problem], arguments: &PlanArguments, context: &Context) -> Outcome {
    if arguments.json {
        context.out.json(&json!({ "problems": list }))?;
    } else {
        context.out.write(problem_lines(list, &context.out))?;
    }
    Ok(())
}

fn memory_json(stage: &MemoryEstimate, worst: Bytes) -> Value {
    let terms: Vec<Value> = stage
        .terms
        .iter()
        .map(|t| json!({ "name": t.name, "bytes": t.bytes, "formula": t.formula }))
        .collect();
    json!({ "stage": stage.stage, "total": stage.total, "worst_routing": worst, "terms": terms })
}

/// A whole plan, or one rank's part of it.
pub(super) fn plan(
    job: &Job,
    plan: &Plan,
    machine: &Machine,
    arguments: &PlanArguments,
    context: &Context,
) -> Outcome {
    if arguments.json {
        let memory: Vec<Value> = plan
            .memory
            .iter()
            .zip(&plan.worst)
            .map(|(stage, worst)| memory_json(stage, *worst))
            .collect();
        let rank = arguments.rank.map(|rank| {
            let groups: serde_json::Map<String, Value> = Group::ALL
                .into_iter()
                .map(|group| {
                    (
                        group.name().to_owned(),
                        json!(plan.grid.members(group, rank)),
                    )
                })
                .collect();
            json!({ "rank": rank, "stage": plan.grid.coordinates(rank).pp, "groups": groups })
        });
        context.out.json(&json!({
            "machine": machine, "gpus": job.gpus, "degrees": degrees_json(&job.degrees),
            "problems": plan.problems, "memory": memory, "flops": plan.flops,
            "theoretical": theoretical_json(job),
            "time": plan.time, "rank": rank,
        }))?;
        return Ok(());
    }
    let out = &context.out;
    let mut text = problem_lines(&plan.problems, out);
    let _ = writeln!(
        text,
        "{} GPUs ({}), {}",
        job.gpus,
        machine.gpu,
        degrees_line(&job.degrees)
    );
    let stages: Vec<&MemoryEstimate> = match arguments.rank {
        Some(rank) => {
            text += &groups(plan, rank, out);
            let stage = plan.grid.coordinates(rank).pp;
            plan.memory.iter().filter(|m| m.stage == stage).collect()
        }
        None => plan
            .memory
            .iter()
            .max_by_key(|m| m.total)
            .into_iter()
            .collect(),
    };
    text += &stage_table(plan, machine, out);
    for stage in stages {
        let title = format!("memory of a rank of stage {}", stage.stage);
        let _ = writeln!(text, "\n{}", out.paint(Tone::Heading, title));
        for term in &stage.terms {
            let _ = writeln!(
                text,
                "  {:<24} {:>10}  {}",
                term.name,
                term.bytes,
                out.paint(Tone::Dim, &term.formula)
            );
        }
        let _ = writeln!(text, "  {:<24} {:>10}", "total", stage.total);
        text += &traffic(plan, stage.stage, out);
    }
    text += &theoretical_lines(job, out);
    text += &step(plan, out);
    out.write(text)?;
    Ok(())
}

/// What Megatron's log will say of memory, by the same formula.
fn theoretical_lines(job: &Job, out: &Output) -> String {
    let heading = out.paint(Tone::Heading, "what Megatron's log says of memory");
    let mut text = format!("\n{heading}\n");
    for line in theoretical(job, Counted::Modules).lines() {
        let _ = writeln!(text, "  {line}");
    }
    let core = theoretical(job, Counted::Attention);
    let _ = writeln!(
        text,
        "  {}",
        out.paint(
            Tone::Dim,
            format!(
                "Megatron Core 0.19, which takes every layer for softmax attention, says weight and optimizer={:.2} MB",
                core.weights_and_optimizer / f64::from(1 << 20)
            )
        )
    );
    text
}

fn theoretical_json(job: &Job) -> Value {
    let counted = |counted| {
        let told = theoretical(job, counted);
        json!({
            "dense": told.dense, "routed": told.routed, "shard_dense": told.shard_dense,
            "shard_routed": told.shard_routed, "weights_and_optimizer": told.weights_and_optimizer,
            "activations": told.activations,
        })
    };
    json!({ "modules": counted(Counted::Modules), "attention": counted(Counted::Attention) })
}

fn groups(plan: &Plan, rank: usize, out: &Output) -> String {
    let mut text = format!(
        "\n{}\n",
        out.paint(Tone::Heading, format!("groups of rank {rank}"))
    );
    for group in Group::ALL {
        let members = plan.grid.members(group, rank);
        if members.len() > 1 {
            let shown: Vec<_> = members.iter().take(16).map(ToString::to_string).collect();
            let more = if members.len() > 16 { " ..." } else { "" };
            let _ = writeln!(text, "  {:<10} {}{more}", group.name(), shown.join(" "));
        }
    }
    text
}

fn stage_table(plan: &Plan, machine: &Machine, out: &Output) -> String {
    let mut text = format!(
        "\n{}\n",
        out.paint(
            Tone::Heading,
            "stage  layers  mtp      memory   of GPU  worst routing  forward ms  backward ms"
        )
    );
    for (((stage, memory), worst), time) in plan
        .stages
        .iter()
        .zip(&plan.memory)
        .zip(&plan.worst)
        .zip(&plan.time.stages)
    {
        let share = 100.0 * memory.total.0 as f64 / machine.memory().0.max(1) as f64;
        let _ = writeln!(
            text,
            "{:>5}  {:>6}  {:>3}  {:>10}  {share:>5.0} %  {:>13}  {:>10.2}  {:>11.2}",
            stage.pp,
            stage.layers().count(),
            stage.mtp,
            memory.total.to_string(),
            worst.to_string(),
            time.forward * 1e3,
            time.backward * 1e3,
        );
    }
    text
}

fn traffic(plan: &Plan, stage: usize, out: &Output) -> String {
    let mut text = format!(
        "\n{}\n",
        out.paint(
            Tone::Heading,
            format!("traffic of a rank of stage {stage} in a step")
        )
    );
    let list = plan.time.stages.get(stage).map(|s| s.traffic.as_slice());
    for item in list.unwrap_or_default() {
        let _ = writeln!(
            text,
            "  {:<28} {:>4} ranks  {:<10} {:>10}  {:>8.2} ms",
            item.name,
            item.ranks,
            format!("{:?}", item.link).to_lowercase(),
            item.bytes.to_string(),
            item.seconds * 1e3
        );
    }
    text
}

fn step(plan: &Plan, out: &Output) -> String {
    let time = &plan.time;
    let mut text = format!("\n{}\n", out.paint(Tone::Heading, "operations of a step"));
    for module in &plan.flops {
        let _ = writeln!(
            text,
            "  {:<24} {:>14}",
            module.name,
            module.flops.to_string()
        );
    }
    let _ = writeln!(
        text,
        "\nstep about {:.2} s, {:.2} to {:.2}: {:.0} TFLOP/s a GPU, bubble {:.0} %, skew {:.2}",
        time.seconds,
        time.low,
        time.high,
        time.tflops_per_gpu,
        100.0 * time.bubble,
        time.skew
    );
    text
}

/// The layouts that a search found.
pub(super) fn found(
    found: &Found,
    machine: &Machine,
    arguments: &PlanArguments,
    context: &Context,
) -> Outcome {
    if arguments.json {
        let best: Vec<Value> = found
            .best
            .iter()
            .map(|c| {
                json!({
                    "degrees": degrees_json(&c.degrees), "micro_batch_size": c.micro_batch_size,
                    "recompute": recompute_name(&c.recompute), "pipeline_layout": c.pipeline_layout,
                    "memory": c.memory, "seconds": c.time.seconds, "low": c.time.low,
                    "high": c.time.high, "bubble": c.time.bubble,
                })
            })
            .collect();
        let rejected: Vec<Value> = found
            .rejected
            .iter()
            .map(|r| {
                json!({
                    "code": r.code, "count": r.count, "message": r.message, "needs": r.needs,
                    "degrees": degrees_json(&r.example.0), "micro_batch_size": r.example.1,
                })
            })
            .collect();
        context.out.json(&json!({
            "machine": machine, "tried": found.tried, "fitting": found.fitting,
            "best": best, "rejected": rejected,
        }))?;
        return Ok(());
    }
    let out = &context.out;
    let mut text = format!(
        "{} layouts tried on {}, {} start and fit, {} are beaten by none\n\n",
        found.tried,
        machine.gpu,
        found.fitting,
        found.best.len()
    );
    for c in &found.best {
        let _ = writeln!(
            text,
            "{:>8.2} s  {:>10}  {} micro-batch {} recompute {}{}",
            c.time.seconds,
            c.memory.to_string(),
            degrees_line(&c.degrees),
            c.micro_batch_size,
            recompute_name(&c.recompute),
            c.pipeline_layout
                .as_ref()
                .map_or(String::new(), |layout| format!(" layout {layout}")),
        );
    }
    let _ = writeln!(text, "\n{}", out.paint(Tone::Heading, "rejected"));
    for r in &found.rejected {
        let _ = writeln!(
            text,
            "{:>8}  {}: {} ({}, micro-batch {})",
            r.count,
            out.paint(Tone::Name, r.code),
            r.message,
            degrees_line(&r.example.0),
            r.example.1
        );
    }
    out.write(text)?;
    Ok(())
}
