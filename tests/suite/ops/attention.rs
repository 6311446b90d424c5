//! Attention, its gate, and the block of full attention made of ops.

use candle_core::{D, DType, Result, Tensor};
use trestle::ops::{CuSeqlens, attention, columns, linear, rms_norm, rope, sigmoid_gate};

use super::golden::{Case, Report, cases, zeros_like};
use super::oracle::{self, Random};

const TOLERANCE: f64 = 5e-6;

#[test]
fn attention_and_its_gate_match_their_goldens() {
    let mut report = Report::new("attention goldens", TOLERANCE);
    for case in cases("attention") {
        let allowed = if case.name == "attn_sharp" {
            1e-5
        } else {
            TOLERANCE
        };
        let (cu, scale) = (case.cu_seqlens(), (case.number("D") as f32).powf(-0.5));
        let [q, k, v] = ["in.q", "in.k", "in.v"].map(|key| case.packed_heads(key));
        let flat = |key: &str| case.packed(key).reshape(q.shape()).unwrap();
        let (o, lse) = attention::forward(&q, &k, &v, &cu, scale).unwrap();
        let gate = flat("in.gate");
        let y = sigmoid_gate::forward(&o, &gate).unwrap();
        let (d_o, d_gate) = sigmoid_gate::backward(&flat("up.y"), &o, &gate).unwrap();
        let (dq, dk, dv) = attention::backward(&d_o, &q, &k, &v, &o, &lse, &cu, scale).unwrap();
        let mut compare = |name: &str, found: &Tensor, truth: &Tensor| {
            report.compare_within(&format!("{} {name}", case.name), found, truth, allowed);
        };
        compare("o", &o, &flat("out.o"));
        compare("y", &y, &case.packed("out.y"));
        compare("lse", &lse, &case.packed_heads("out.lse"));
        compare("dgate", &d_gate, &flat("grad.gate"));
        compare("dq", &dq, &case.packed_heads("grad.q"));
        compare("dk", &dk, &case.packed_heads("grad.k"));
        compare("dv", &dv, &case.packed_heads("grad.v"));
    }
}

#[test]
fn a_block_of_full_attention_matches_its_goldens() {
    let mut report = Report::new("attention block goldens", TOLERANCE);
    for case in cases("attention_block") {
        block(&mut report, &case);
    }
}

fn block(report: &mut Report, case: &Case) {
    let [heads, kv, d, hidden] = ["H", "K", "D", "h"].map(|key| case.number(key));
    let n = case.number("B") * case.number("T");
    let cu = case.cu_seqlens();
    let scale = (d as f32).powf(-0.5);
    let [q_proj, k_proj, v_proj, o_proj] =
        ["in.q_proj", "in.k_proj", "in.v_proj", "in.o_proj"].map(|key| case.get(key));
    let (q_norm, k_norm) = (case.get("in.q_norm"), case.get("in.k_norm"));
    let table = rope::Table::new(&case.positions(), d / 4, 1e7, case.sections()).unwrap();
    let x = case.packed("in.x");

    let both = linear::forward(&x, q_proj)
        .unwrap()
        .reshape((n * heads, 2 * d))
        .unwrap();
    let [q, gate] = columns::split(&both, &[d, d]).unwrap();
    let k = linear::forward(&x, k_proj)
        .unwrap()
        .reshape((n * kv, d))
        .unwrap();
    let v = linear::forward(&x, v_proj)
        .unwrap()
        .reshape((n, kv, d))
        .unwrap();
    let normed = |x: &Tensor, w: &Tensor, heads: usize| {
        let y = rms_norm::forward(x, w, 1e-6)
            .unwrap()
            .reshape((n, heads, d))
            .unwrap();
        rope::forward(&y, &table).unwrap()
    };
    let (q_rotated, k_rotated) = (normed(&q, q_norm, heads), normed(&k, k_norm, kv));
    let (o, lse) = attention::forward(&q_rotated, &k_rotated, &v, &cu, scale).unwrap();
    let gate = gate.reshape((n, heads, d)).unwrap();
    let gated = sigmoid_gate::forward(&o, &gate)
        .unwrap()
        .reshape((n, heads * d))
        .unwrap();
    report.compare(
        &format!("{} y", case.name),
        &linear::forward(&gated, o_proj).unwrap(),
        &case.packed("out.y"),
    );

    let dy = case.packed("up.y");
    let grads = [q_proj, k_proj, v_proj, o_proj, q_norm, k_norm].map(zeros_like);
    let [dq_proj, dk_proj, dv_proj, do_proj, dq_norm, dk_norm] = &grads;
    linear::backward_weight(&dy, &gated, do_proj).unwrap();
    let d_gated = linear::backward_input(&dy, o_proj)
        .unwrap()
        .reshape((n, heads, d))
        .unwrap();
    let (d_o, d_gate) = sigmoid_gate::backward(&d_gated, &o, &gate).unwrap();
    let (dq, dk, dv) =
        attention::backward(&d_o, &q_rotated, &k_rotated, &v, &o, &lse, &cu, scale).unwrap();
    let unnormed = |dy: &Tensor, x: &Tensor, w: &Tensor, dw: &Tensor| {
        let dy = rope::backward(dy, &table)
            .unwrap()
            .reshape(x.shape())
            .unwrap();
        rms_norm::backward(&dy, x, w, 1e-6, dw).unwrap()
    };
    let dq = unnormed(&dq, &q, q_norm, dq_norm);
    let dk = unnormed(&dk, &k, k_norm, dk_norm)
        .reshape((n, kv * d))
        .unwrap();
    let dv = dv.reshape((n, kv * d)).unwrap();
    let d_gate = d_gate.reshape((n * heads, d)).unwrap();
    let d_both = columns::join(&[&dq, &d_gate])
        .unwrap()
        .reshape((n, 2 * heads * d))
        .unwrap();
    let dx = linear::backward_input(&d_both, q_proj).unwrap();
    linear::backward_input_into(&dk, k_proj, &dx).unwrap();
    linear::backward_input_into(&dv, v_proj, &dx).unwrap();
    for (dy, dw) in [(&d_both, dq_proj), (&dk, dk_proj), (&dv, dv_proj)] {
        linear::backward_weight(dy, &x, dw).unwrap();
    }
    assert_eq!(dx.dims(), [n, hidden]);
    report.compare(&format!("{} dx", case.name), &dx, &case.packed("grad.x"));
    for (name, found) in ["q_proj", "k_proj", "v_proj", "o_proj", "q_norm", "k_norm"]
        .iter()
        .zip(&grads)
    {
        report.compare(
            &format!("{} d{name}", case.name),
            found,
            case.get(&format!("grad.{name}")),
        );
    }
}

/// Softmax over whole sequences, heads as a batch; the output and the log of the denominator.
fn composition(inputs: &[Tensor], cu: &CuSeqlens, scale: f64) -> Result<(Tensor, Tensor)> {
    let [q, k, v] = inputs else { unreachable!() };
    let (_, heads, d) = q.dims3()?;
    let kv = k.dim(1)?;
    let (mut outputs, mut denominators) = (Vec::new(), Vec::new());
    for segment in cu.segments() {
        let len = segment.len();
        let part = |x: &Tensor| {
            x.narrow(0, segment.start, len)?
                .transpose(0, 1)?
                .contiguous()
        };
        let repeat = |x: Tensor| -> Result<Tensor> {
            let wide = x.unsqueeze(1)?.broadcast_as((kv, heads / kv, len, d))?;
            wide.contiguous()?.reshape((heads, len, d))
        };
        let (q, k, v) = (part(q)?, repeat(part(k)?)?, repeat(part(v)?)?);
        let hidden: Vec<f64> = (0..len * len)
            .map(|index| {
                if index % len > index / len {
                    f64::NEG_INFINITY
                } else {
                    0.0
                }
            })
            .collect();
        let mask = Tensor::from_vec(hidden, (len, len), q.device())?;
        let scores = (q.matmul(&k.t()?.contiguous()?)? * scale)?.broadcast_add(&mask)?;
        let highest = scores.max_keepdim(D::Minus1)?.detach();
        let weights = scores.broadcast_sub(&highest)?.exp()?;
        let total = weights.sum_keepdim(D::Minus1)?;
        outputs.push(
            weights
                .broadcast_div(&total)?
                .matmul(&v)?
                .transpose(0, 1)?
                .contiguous()?,
        );
        denominators.push((total.log()? + highest)?.squeeze(2)?.t()?.contiguous()?);
    }
    Ok((Tensor::cat(&outputs, 0)?, Tensor::cat(&denominators, 0)?))
}

#[test]
fn attention_matches_autograd() {
    let mut report = Report::new("attention autograd", TOLERANCE);
    let layouts: [&[usize]; 6] = [
        &[0, 1],
        &[0, 63],
        &[0, 64],
        &[0, 65],
        &[0, 3, 4, 70],
        &[0, 130, 193],
    ];
    for boundaries in layouts {
        let cu = CuSeqlens::new(boundaries.to_vec()).unwrap();
        let n = cu.tokens();
        let mut random = Random::new(n as u64);
        let inputs = [
            random.tensor(&[n, 4, 12]),
            random.tensor(&[n, 2, 12]),
            random.tensor(&[n, 2, 12]),
        ];
        oracle::compare(
            &mut report,
            &format!("{boundaries:?}"),
            &inputs,
            |inputs, upstream| {
                let [q, k, v] = inputs else { unreachable!() };
                let (o, lse) = attention::forward(q, k, v, &cu, 0.6)?;
                let (dq, dk, dv) =
                    attention::backward(&upstream(&[])[0], q, k, v, &o, &lse, &cu, 0.6)?;
                Ok((vec![o], vec![dq, dk, dv]))
            },
            |inputs| Ok(vec![composition(inputs, &cu, f64::from(0.6f32))?.0]),
        );
        let [q, k, v] = &inputs;
        let wide = inputs
            .each_ref()
            .map(|input| input.to_dtype(DType::F64).unwrap());
        let (_, lse) = attention::forward(q, k, v, &cu, 0.6).unwrap();
        report.compare(
            &format!("{boundaries:?} lse"),
            &lse,
            &composition(&wide, &cu, f64::from(0.6f32)).unwrap().1,
        );
    }
}
