//! A second opinion: the model as a plain composition of candle operations in f64, differentiated by candle's autograd.
//!
//! Written for being obviously right: one token at a time in the delta rule, one head at a time in attention, documents
//! cut apart and joined again, no code shared with the model.

use std::collections::HashMap;

use candle_core::{D, DType, Device, Tensor, Var};
use candle_nn::ops::{log_softmax, sigmoid, softmax};
use trestle::nn::{Batch, Parameters};
use trestle::spec::{LayerKind, TextConfig};

pub(super) struct Oracle<'a> {
    config: &'a TextConfig,
    weights: HashMap<String, Var>,
}

pub(super) struct Answer {
    /// Logits of the decoder and of each MTP depth, `[N, V]`.
    pub(super) logits: Vec<Tensor>,
    /// Mean losses in the same order.
    pub(super) losses: Vec<f64>,
    /// Gradients of main + lambda / D * sum(mtp) by name; absent is zero.
    pub(super) grads: HashMap<String, Tensor>,
}

impl<'a> Oracle<'a> {
    pub(super) fn new(config: &'a TextConfig, parameters: &Parameters) -> Self {
        let weights = parameters
            .names()
            .map(|name| {
                let weight = parameters
                    .weight(name)
                    .unwrap()
                    .to_dtype(DType::F64)
                    .unwrap();
                (
                    name.to_owned(),
                    Var::from_tensor(&weight.copy().unwrap()).unwrap(),
                )
            })
            .collect();
        Self { config, weights }
    }

    pub(super) fn answer(&self, batch: &Batch, lambda: f64) -> Answer {
        let segments: Vec<(usize, usize)> = batch
            .cu_seqlens
            .segments()
            .map(|segment| (segment.start, segment.len()))
            .collect();
        let embedding = self.weight("model.embed_tokens.weight");
        let head = if self.config.tie_word_embeddings {
            embedding
        } else {
            self.weight("lm_head.weight")
        };
        let embed = |ids: &[u32]| {
            let ids = Tensor::new(ids, &Device::Cpu).unwrap();
            embedding.index_select(&ids, 0).unwrap()
        };
        let (cos, sin) = self.angles(batch);

        let mut x = embed(&batch.input_ids);
        for (i, &kind) in self.config.layer_types.iter().enumerate() {
            x = self.layer(
                &x,
                kind,
                &format!("model.layers.{i}"),
                &cos,
                &sin,
                &segments,
            );
        }
        let mut hidden = self.norm(&x, "model.norm.weight");
        let mut logits = vec![linear(&hidden, head)];
        let mut ids = batch.input_ids.clone();
        let mut labels = vec![batch.labels.clone()];
        let mut masks = vec![batch.loss_mask.clone()];
        for index in 0..self.config.mtp_num_hidden_layers {
            let own = if index == 0 {
                "mtp".to_owned()
            } else {
                format!("mtp.{index}")
            };
            ids = ahead(&ids, &segments);
            labels.push(ahead(&labels[index], &segments));
            masks.push(ahead(&masks[index], &segments));
            let e = self.norm(&embed(&ids), &format!("{own}.pre_fc_norm_embedding.weight"));
            let h = self.norm(&hidden, &format!("{own}.pre_fc_norm_hidden.weight"));
            let fc = self.weight(&format!("{own}.fc.weight"));
            let y = linear(&Tensor::cat(&[e, h], 1).unwrap(), fc);
            let prefix = format!("mtp.layers.{index}");
            let z = self.layer(&y, LayerKind::FullAttention, &prefix, &cos, &sin, &segments);
            hidden = self.norm(&z, &format!("{own}.norm.weight"));
            logits.push(linear(&hidden, head));
        }

        let losses: Vec<Tensor> = (0..logits.len())
            .map(|k| mean_loss(&logits[k], &labels[k], &masks[k]))
            .collect();
        let mut objective = losses[0].clone();
        let depths = losses.len() - 1;
        for loss in &losses[1..] {
            objective = (objective + (loss * (lambda / depths as f64)).unwrap()).unwrap();
        }
        let store = objective.backward().unwrap();
        let grads = self
            .weights
            .iter()
            .filter_map(|(name, var)| Some((name.clone(), store.get(var)?.clone())))
            .collect();
        Answer {
            logits,
            losses: losses
                .iter()
                .map(|loss| loss.to_scalar().unwrap())
                .collect(),
            grads,
        }
    }

    fn weight(&self, name: &str) -> &Tensor {
        self.weights[name].as_tensor()
    }

    fn norm(&self, x: &Tensor, name: &str) -> Tensor {
        let gain = (self.weight(name) + 1.0).unwrap();
        unit(x, self.config.rms_norm_eps)
            .broadcast_mul(&gain)
            .unwrap()
    }

    /// Cosines and sines, `[N, rotary / 2]`.
    fn angles(&self, batch: &Batch) -> (Tensor, Tensor) {
        let half = self.config.rotary_dim() / 2;
        let [_, height, width] = self.config.mrope_section;
        let mut angles = Vec::new();
        for token in 0..batch.input_ids.len() {
            for j in 0..half {
                let row = match j % 3 {
                    1 if j < 3 * height => 1,
                    2 if j < 3 * width => 2,
                    _ => 0,
                };
                let frequency = self
                    .config
                    .rope_theta
                    .powf(-2.0 * j as f64 / (2 * half) as f64);
                angles.push(batch.position_ids[row][token] as f64 * frequency);
            }
        }
        let angles = Tensor::from_vec(angles, (batch.input_ids.len(), half), &Device::Cpu).unwrap();
        (angles.cos().unwrap(), angles.sin().unwrap())
    }

    fn layer(
        &self,
        x: &Tensor,
        kind: LayerKind,
        prefix: &str,
        cos: &Tensor,
        sin: &Tensor,
        segments: &[(usize, usize)],
    ) -> Tensor {
        let normed = self.norm(x, &format!("{prefix}.input_layernorm.weight"));
        let mixed: Vec<Tensor> = segments
            .iter()
            .map(|&(start, len)| {
                let cut = |t: &Tensor| t.narrow(0, start, len).unwrap();
                match kind {
                    LayerKind::FullAttention => self.attention(
                        &cut(&normed),
                        &format!("{prefix}.self_attn"),
                        &cut(cos),
                        &cut(sin),
                    ),
                    LayerKind::LinearAttention => {
                        self.delta_net(&cut(&normed), &format!("{prefix}.linear_attn"))
                    }
                }
            })
            .collect();
        let y = (x + Tensor::cat(&mixed, 0).unwrap()).unwrap();
        let normed = self.norm(&y, &format!("{prefix}.post_attention_layernorm.weight"));
        let project = |x: &Tensor, name: &str| {
            linear(x, self.weight(&format!("{prefix}.mlp.{name}_proj.weight")))
        };
        let gated = (project(&normed, "gate").silu().unwrap() * project(&normed, "up")).unwrap();
        (y + project(&gated, "down")).unwrap()
    }

    /// One document, `[n, h]` to `[n, h]`.
    fn attention(&self, x: &Tensor, prefix: &str, cos: &Tensor, sin: &Tensor) -> Tensor {
        let n = x.dim(0).unwrap();
        let (heads, d) = (self.config.num_attention_heads, self.config.head_dim);
        let group = heads / self.config.num_key_value_heads;
        let project = |name: &str, heads: usize, width: usize| {
            let y = linear(x, self.weight(&format!("{prefix}.{name}.weight")));
            y.reshape((n, heads, width)).unwrap()
        };
        let q_gate = project("q_proj", heads, 2 * d);
        let k = project("k_proj", heads / group, d);
        let v = project("v_proj", heads / group, d);
        let q = self.norm(
            &q_gate.narrow(2, 0, d).unwrap(),
            &format!("{prefix}.q_norm.weight"),
        );
        let k = self.norm(&k, &format!("{prefix}.k_norm.weight"));
        let gate = sigmoid(&q_gate.narrow(2, d, d).unwrap().contiguous().unwrap()).unwrap();
        let later: Vec<f64> = (0..n * n)
            .map(|i| {
                if i % n > i / n {
                    f64::NEG_INFINITY
                } else {
                    0.0
                }
            })
            .collect();
        let later = Tensor::from_vec(later, (n, n), &Device::Cpu).unwrap();
        let outputs: Vec<Tensor> = (0..heads)
            .map(|head| {
                let one =
                    |t: &Tensor, head: usize| t.narrow(1, head, 1).unwrap().squeeze(1).unwrap();
                let q = rotate(&one(&q, head), cos, sin);
                let k = rotate(&one(&k, head / group), cos, sin);
                let scores = (q.matmul(&k.t().unwrap()).unwrap() * (d as f64).powf(-0.5)).unwrap();
                let weights = softmax(&(scores + &later).unwrap(), D::Minus1).unwrap();
                let v = one(&v, head / group).contiguous().unwrap();
                (weights.matmul(&v).unwrap() * one(&gate, head)).unwrap()
            })
            .collect();
        let joined = Tensor::cat(&outputs, 1).unwrap();
        linear(&joined, self.weight(&format!("{prefix}.o_proj.weight")))
    }

    /// One document, `[n, h]` to `[n, h]`, token by token.
    fn delta_net(&self, x: &Tensor, prefix: &str) -> Tensor {
        let config = self.config;
        let n = x.dim(0).unwrap();
        let weight = |name: &str| self.weight(&format!("{prefix}.{name}"));
        let (key_heads, value_heads) = (config.linear_num_key_heads, config.linear_num_value_heads);
        let (dk, dv) = (config.linear_key_head_dim, config.linear_value_head_dim);

        let qkv = linear(x, weight("in_proj_qkv.weight"));
        let taps = config.linear_conv_kernel_dim;
        let before =
            Tensor::zeros((taps - 1, qkv.dim(1).unwrap()), DType::F64, &Device::Cpu).unwrap();
        let padded = Tensor::cat(&[before, qkv], 0).unwrap();
        let filters = weight("conv1d.weight").squeeze(1).unwrap();
        let mut conv = padded.narrow(0, 0, n).unwrap().zeros_like().unwrap();
        for tap in 0..taps {
            let filter = filters.narrow(1, tap, 1).unwrap().t().unwrap();
            conv = (conv
                + padded
                    .narrow(0, tap, n)
                    .unwrap()
                    .broadcast_mul(&filter)
                    .unwrap())
            .unwrap();
        }
        let conv = conv.silu().unwrap();

        let owner: Vec<u32> = (0..value_heads)
            .map(|head| (head / (value_heads / key_heads)) as u32)
            .collect();
        let owner = Tensor::new(owner, &Device::Cpu).unwrap();
        let keys = |start: usize| {
            let x = conv.narrow(1, start, key_heads * dk).unwrap();
            let x = x.reshape((n, key_heads, dk)).unwrap().contiguous().unwrap();
            let length = (x.sqr().unwrap().sum_keepdim(2).unwrap() + 1e-6)
                .unwrap()
                .sqrt()
                .unwrap();
            x.broadcast_div(&length)
                .unwrap()
                .index_select(&owner, 1)
                .unwrap()
        };
        let q = (keys(0) * (dk as f64).powf(-0.5)).unwrap();
        let k = keys(key_heads * dk);
        let v = conv
            .narrow(1, 2 * key_heads * dk, value_heads * dv)
            .unwrap();
        let v = v.reshape((n, value_heads, dv)).unwrap();
        let beta = sigmoid(&linear(x, weight("in_proj_b.weight"))).unwrap();
        let a = linear(x, weight("in_proj_a.weight"))
            .broadcast_add(weight("dt_bias"))
            .unwrap();
        let softplus = (a.exp().unwrap() + 1.0).unwrap().log().unwrap();
        let rate = weight("A_log").exp().unwrap().neg().unwrap();
        let decay = softplus.broadcast_mul(&rate).unwrap().exp().unwrap();

        let mut state = Tensor::zeros((value_heads, dk, dv), DType::F64, &Device::Cpu).unwrap();
        let mut outputs = Vec::new();
        for t in 0..n {
            let at = |x: &Tensor| x.narrow(0, t, 1).unwrap().squeeze(0).unwrap();
            let column = |x: &Tensor| at(x).unsqueeze(2).unwrap();
            let per_head = |x: &Tensor| at(x).reshape((value_heads, 1, 1)).unwrap();
            state = state.broadcast_mul(&per_head(&decay)).unwrap();
            let recalled = state
                .broadcast_mul(&column(&k))
                .unwrap()
                .sum_keepdim(1)
                .unwrap();
            let delta = (at(&v).unsqueeze(1).unwrap() - recalled).unwrap();
            let delta = delta.broadcast_mul(&per_head(&beta)).unwrap();
            state = (state + column(&k).broadcast_mul(&delta).unwrap()).unwrap();
            outputs.push(state.broadcast_mul(&column(&q)).unwrap().sum(1).unwrap());
        }
        let o = Tensor::stack(&outputs, 0).unwrap();
        let z = linear(x, weight("in_proj_z.weight"))
            .reshape((n, value_heads, dv))
            .unwrap();
        let o = unit(&o, config.rms_norm_eps)
            .broadcast_mul(weight("norm.weight"))
            .unwrap();
        let o = (o * z.silu().unwrap())
            .unwrap()
            .reshape((n, value_heads * dv))
            .unwrap();
        linear(&o, weight("out_proj.weight"))
    }
}

fn linear(x: &Tensor, w: &Tensor) -> Tensor {
    x.matmul(&w.t().unwrap()).unwrap()
}

fn unit(x: &Tensor, eps: f64) -> Tensor {
    let rms = (x.sqr().unwrap().mean_keepdim(D::Minus1).unwrap() + eps)
        .unwrap()
        .sqrt()
        .unwrap();
    x.broadcast_div(&rms).unwrap()
}

/// Rotates the first `2 * half` of `[n, d]` by `[n, half]` angles.
fn rotate(x: &Tensor, cos: &Tensor, sin: &Tensor) -> Tensor {
    let half = cos.dim(1).unwrap();
    let d = x.dim(1).unwrap();
    let (a, b) = (
        x.narrow(1, 0, half).unwrap(),
        x.narrow(1, half, half).unwrap(),
    );
    let first = ((&a * cos).unwrap() - (&b * sin).unwrap()).unwrap();
    let second = ((&b * cos).unwrap() + (&a * sin).unwrap()).unwrap();
    let rest = x.narrow(1, 2 * half, d - 2 * half).unwrap();
    Tensor::cat(&[first, second, rest], 1).unwrap()
}

fn ahead<T: Copy + Default>(values: &[T], segments: &[(usize, usize)]) -> Vec<T> {
    let mut out = Vec::new();
    for &(start, len) in segments {
        for i in 0..len {
            out.push(if i + 1 < len {
                values[start + i + 1]
            } else {
                T::default()
            });
        }
    }
    out
}

fn mean_loss(logits: &Tensor, labels: &[u32], mask: &[f32]) -> Tensor {
    let labels = Tensor::new(labels, &Device::Cpu)
        .unwrap()
        .unsqueeze(1)
        .unwrap();
    let chosen = log_softmax(logits, D::Minus1)
        .unwrap()
        .gather(&labels, 1)
        .unwrap()
        .squeeze(1)
        .unwrap();
    let mask = Tensor::new(mask, &Device::Cpu)
        .unwrap()
        .to_dtype(DType::F64)
        .unwrap();
    let count = mask.sum_all().unwrap().to_scalar::<f64>().unwrap().max(1.0);
    ((chosen * mask).unwrap().sum_all().unwrap() / -count).unwrap()
}
