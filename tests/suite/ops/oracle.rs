//! The second and third oracle: candle's autograd on a plain composition in f64, and central differences of it.

use candle_core::{DType, Device, Result, Tensor, Var};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::golden::{Report, values};

/// Random tensors, the same in every run.
pub(super) struct Random(ChaCha8Rng);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(ChaCha8Rng::seed_from_u64(seed))
    }

    /// Values between `low` and `high`.
    pub(super) fn between(&mut self, low: f32, high: f32, shape: &[usize]) -> Tensor {
        let values: Vec<f32> = (0..shape.iter().product())
            .map(|_| self.0.random_range(low..high))
            .collect();
        Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
    }

    /// Values between -1 and 1.
    pub(super) fn tensor(&mut self, shape: &[usize]) -> Tensor {
        self.between(-1.0, 1.0, shape)
    }

    pub(super) fn ids(&mut self, below: u32, count: usize) -> Vec<u32> {
        (0..count).map(|_| self.0.random_range(0..below)).collect()
    }
}

/// One comparison: `op` gives outputs and, from upstream gradients, the gradients of the inputs; `truth` gives the outputs in f64.
pub(super) fn compare(
    report: &mut Report,
    what: &str,
    inputs: &[Tensor],
    op: impl Fn(
        &[Tensor],
        &mut dyn FnMut(&[Tensor]) -> Vec<Tensor>,
    ) -> Result<(Vec<Tensor>, Vec<Tensor>)>,
    truth: impl Fn(&[Tensor]) -> Result<Vec<Tensor>>,
) {
    let mut random = Random::new(7);
    let wide: Vec<Tensor> = inputs
        .iter()
        .map(|input| input.to_dtype(DType::F64).unwrap())
        .collect();
    let variables: Vec<Var> = wide
        .iter()
        .map(|input| Var::from_tensor(input).unwrap())
        .collect();
    let tracked: Vec<Tensor> = variables
        .iter()
        .map(|variable| variable.as_tensor().clone())
        .collect();
    let true_outputs = truth(&tracked).unwrap();
    let upstream: Vec<Tensor> = true_outputs
        .iter()
        .map(|output| random.tensor(output.dims()))
        .collect();

    let (outputs, gradients) = op(inputs, &mut |_| upstream.clone()).unwrap();
    assert_eq!(outputs.len(), true_outputs.len());
    assert_eq!(gradients.len(), inputs.len());
    for (index, (output, truth)) in outputs.iter().zip(&true_outputs).enumerate() {
        report.compare(&format!("{what} output {index}"), output, truth);
    }

    let objective = |outputs: &[Tensor]| -> Result<Tensor> {
        let mut sum = Tensor::zeros((), DType::F64, &Device::Cpu)?;
        for (output, up) in outputs.iter().zip(&upstream) {
            sum = (sum + (output * up.to_dtype(DType::F64)?)?.sum_all()?)?;
        }
        Ok(sum)
    };
    let grads = objective(&true_outputs).unwrap().backward().unwrap();
    for (index, (gradient, variable)) in gradients.iter().zip(&variables).enumerate() {
        let truth = grads
            .get(variable)
            .cloned()
            .unwrap_or_else(|| variable.zeros_like().unwrap());
        report.compare(&format!("{what} gradient {index}"), gradient, &truth);
    }

    // one direction of each input
    let step = 1e-5;
    for (index, gradient) in gradients.iter().enumerate() {
        let direction = random
            .tensor(inputs[index].dims())
            .to_dtype(DType::F64)
            .unwrap();
        let shifted = |by: f64| {
            let mut moved = wide.clone();
            moved[index] = (&moved[index] + (&direction * by).unwrap()).unwrap();
            objective(&truth(&moved).unwrap())
                .unwrap()
                .to_scalar::<f64>()
                .unwrap()
        };
        let difference = (shifted(step) - shifted(-step)) / (2.0 * step);
        let (gradient, direction) = (values(gradient), values(&direction));
        let found: f64 = gradient
            .iter()
            .zip(&direction)
            .map(|(gradient, direction)| gradient * direction)
            .sum();
        let scale: f64 = gradient
            .iter()
            .zip(&direction)
            .map(|(gradient, direction)| (gradient * direction).abs())
            .sum();
        let allowed = 1e-5 * scale + 1e-6;
        assert!(
            (found - difference).abs() <= allowed,
            "{what}: input {index} along a direction: {found}, by differences {difference}, allowed {allowed:.1e}"
        );
    }
}

/// `1 / (1 + e^-x)` from the simplest ops.
pub(super) fn sigmoid(x: &Tensor) -> Result<Tensor> {
    (x.neg()?.exp()? + 1.0)?.recip()
}

/// `x sigmoid(x)`.
pub(super) fn silu(x: &Tensor) -> Result<Tensor> {
    x * sigmoid(x)?
}
