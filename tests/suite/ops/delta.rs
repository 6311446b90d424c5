//! The gated delta rule, recurrent and chunked.

use candle_core::{D, DType, Result, Tensor};
use trestle::ops::{CuSeqlens, gated_delta};

use super::golden::{Case, Report, cases};
use super::oracle::{self, Random};

const CHUNKED: f64 = 2e-5;
const RECURRENT: f64 = 3e-6;

fn inputs(case: &Case) -> ([Tensor; 5], Option<Tensor>) {
    (
        ["in.q", "in.k", "in.v", "in.g", "in.beta"].map(|key| case.packed(key)),
        case.find("in.state").cloned(),
    )
}

#[test]
fn the_recurrent_rule_matches_its_goldens() {
    let mut report = Report::new("gated_delta recurrent goldens", RECURRENT);
    for case in cases("gdn") {
        let ([q, k, v, g, beta], state) = inputs(&case);
        let (o, state) =
            gated_delta::recurrent(&q, &k, &v, &g, &beta, &case.cu_seqlens(), state.as_ref())
                .unwrap();
        report.compare(&format!("{} o", case.name), &o, &case.packed("out.o"));
        if let Some(truth) = case.find("out.state") {
            report.compare(&format!("{} state", case.name), &state, truth);
        }
    }
}

#[test]
fn the_chunked_rule_matches_its_goldens() {
    let mut report = Report::new("gated_delta chunked goldens", CHUNKED);
    for case in cases("gdn") {
        let ([q, k, v, g, beta], state) = inputs(&case);
        let output =
            gated_delta::forward(&q, &k, &v, &g, &beta, &case.cu_seqlens(), state.as_ref())
                .unwrap();
        report.compare(
            &format!("{} o", case.name),
            &output.o,
            &case.packed("out.o"),
        );
        if let Some(truth) = case.find("out.state") {
            report.compare(&format!("{} state", case.name), &output.final_state, truth);
        }
        let grads =
            gated_delta::backward(&case.packed("up.o"), case.find("up.state"), &output.saved)
                .unwrap();
        let found = [&grads.dq, &grads.dk, &grads.dv, &grads.dg, &grads.dbeta];
        for (name, found) in ["q", "k", "v", "g", "beta"].iter().zip(found) {
            report.compare(
                &format!("{} d{name}", case.name),
                found,
                &case.packed(&format!("grad.{name}")),
            );
        }
        if let Some(truth) = case.find("grad.state") {
            report.compare(&format!("{} dstate", case.name), &grads.dstate, truth);
        }
    }
}

/// The rule token by token, all value heads at once.
fn composition(inputs: &[Tensor], cu: &CuSeqlens) -> Result<Vec<Tensor>> {
    let [q, k, v, g, beta, initial] = inputs else {
        unreachable!()
    };
    let (n, key_heads, dk) = q.dims3()?;
    let (_, heads, dv) = v.dims3()?;
    let unit = |x: &Tensor| -> Result<Tensor> {
        let x = x.broadcast_div(&(x.sqr()?.sum_keepdim(D::Minus1)? + 1e-6)?.sqrt()?)?;
        let wide = x
            .unsqueeze(2)?
            .broadcast_as((n, key_heads, heads / key_heads, dk))?;
        wide.contiguous()?.reshape((n, heads, dk))
    };
    let (q, k) = ((unit(q)? / (dk as f64).sqrt())?, unit(k)?);
    let (mut outputs, mut states) = (Vec::new(), Vec::new());
    for (sequence, segment) in cu.segments().enumerate() {
        let mut state = initial.get(sequence)?; // [heads, dk, dv]
        for token in segment {
            let at = |x: &Tensor| x.get(token);
            let (k, v) = (at(&k)?, at(v)?);
            state = state.broadcast_mul(&at(g)?.exp()?.reshape((heads, 1, 1))?)?;
            let read = state.broadcast_mul(&k.unsqueeze(2)?)?.sum(1)?;
            let write = (v - read)?.broadcast_mul(&at(beta)?.unsqueeze(1)?)?;
            state = (state + k.unsqueeze(2)?.broadcast_mul(&write.unsqueeze(1)?)?)?;
            outputs.push(
                state
                    .broadcast_mul(&at(&q)?.unsqueeze(2)?)?
                    .sum(1)?
                    .reshape((1, heads, dv))?,
            );
        }
        states.push(state.unsqueeze(0)?);
    }
    Ok(vec![Tensor::cat(&outputs, 0)?, Tensor::cat(&states, 0)?])
}

#[test]
fn the_chunked_rule_matches_autograd() {
    let mut report = Report::new("gated_delta autograd", CHUNKED);
    let layouts: [&[usize]; 6] = [
        &[0, 1],
        &[0, 63],
        &[0, 64],
        &[0, 65],
        &[0, 5, 6, 70, 101],
        &[0, 129],
    ];
    for boundaries in layouts {
        let cu = CuSeqlens::new(boundaries.to_vec()).unwrap();
        let (n, key_heads, heads, dk, dv) = (cu.tokens(), 2, 4, 6, 5);
        let mut random = Random::new(n as u64);
        let inputs = [
            random.tensor(&[n, key_heads, dk]),
            random.tensor(&[n, key_heads, dk]),
            random.tensor(&[n, heads, dv]),
            random.between(-1.5, -0.01, &[n, heads]),
            random.between(0.05, 0.95, &[n, heads]),
            random.tensor(&[cu.len(), heads, dk, dv]),
        ];
        oracle::compare(
            &mut report,
            &format!("{boundaries:?}"),
            &inputs,
            |inputs, upstream| {
                let [q, k, v, g, beta, state] = inputs else {
                    unreachable!()
                };
                let output = gated_delta::forward(q, k, v, g, beta, &cu, Some(state))?;
                let up = upstream(&[]);
                let grads = gated_delta::backward(&up[0], Some(&up[1]), &output.saved)?;
                let gradients = vec![
                    grads.dq,
                    grads.dk,
                    grads.dv,
                    grads.dg,
                    grads.dbeta,
                    grads.dstate,
                ];
                Ok((vec![output.o, output.final_state], gradients))
            },
            |inputs| composition(inputs, &cu),
        );
    }
}

#[test]
fn a_packed_batch_is_its_sequences_one_by_one() {
    let mut random = Random::new(11);
    let (a, b) = (70, 33);
    let all = [
        random.tensor(&[a + b, 1, 8]),
        random.tensor(&[a + b, 1, 8]),
        random.tensor(&[a + b, 2, 8]),
        random.between(-1.0, -0.1, &[a + b, 2]),
        random.between(0.1, 0.9, &[a + b, 2]),
    ];
    let run = |inputs: &[Tensor; 5], cu: &CuSeqlens| {
        let [q, k, v, g, beta] = inputs;
        gated_delta::forward(q, k, v, g, beta, cu, None).unwrap().o
    };
    let part = |start, len| {
        all.each_ref()
            .map(|x| x.narrow(0, start, len).unwrap().contiguous().unwrap())
    };
    let packed = run(&all, &CuSeqlens::new(vec![0, a, a + b]).unwrap());
    let apart = Tensor::cat(
        &[
            run(&part(0, a), &CuSeqlens::uniform(1, a)),
            run(&part(a, b), &CuSeqlens::uniform(1, b)),
        ],
        0,
    );
    let values = |x: &Tensor| {
        x.to_dtype(DType::F32)
            .unwrap()
            .flatten_all()
            .unwrap()
            .to_vec1::<f32>()
            .unwrap()
    };
    assert_eq!(values(&packed), values(&apart.unwrap()), "bit by bit");
}
