//! Trains the network: a perceptron on float32 batches, with `AdamW`.
//!
//! Three matrix products a layer and step is all there is to it, and the linear algebra library
//! does those; a framework would add sixty crates to every build and, on a CPU, cannot be seeded.

use nalgebra::DMatrix;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::normal;
use crate::screening::reference::RawLayer;

/// Layers of weights, `outputs × inputs`.
#[derive(Clone)]
pub(super) struct Network {
    layers: Vec<Layer>,
}

#[derive(Clone)]
struct Layer {
    weights: DMatrix<f32>,
    bias: DMatrix<f32>,
}

/// `AdamW` (Loshchilov and Hutter 2019) with its moments, a pair a layer.
pub(super) struct AdamW {
    moments: Vec<[Moments; 2]>,
    steps: i32,
}

struct Moments {
    first: DMatrix<f32>,
    second: DMatrix<f32>,
}

const DECAY: f32 = 1e-3;
const BETA_1: f32 = 0.9;
const BETA_2: f32 = 0.999;

impl Network {
    /// He initialisation: normal weights of variance 2 / inputs.
    pub(super) fn new(widths: &[usize], rng: &mut ChaCha8Rng) -> Self {
        let layers = widths.windows(2).map(|pair| {
            #[expect(clippy::cast_precision_loss, reason = "a width of a few hundred")]
            let sd = (2.0 / pair[0] as f32).sqrt();
            Layer {
                weights: DMatrix::from_fn(pair[1], pair[0], |_, _| sd * normal(rng)),
                bias: DMatrix::zeros(pair[1], 1),
            }
        });
        Self {
            layers: layers.collect(),
        }
    }

    /// Outputs for a batch (columns).
    pub(super) fn run(&self, input: &DMatrix<f32>) -> DMatrix<f32> {
        self.activations(input, |_| {}).pop().unwrap_or_default()
    }

    /// What each layer makes of a batch; `thin` may change what a hidden layer says.
    fn activations(
        &self,
        input: &DMatrix<f32>,
        mut thin: impl FnMut(&mut DMatrix<f32>),
    ) -> Vec<DMatrix<f32>> {
        let mut activations: Vec<DMatrix<f32>> = Vec::with_capacity(self.layers.len());
        for (index, layer) in self.layers.iter().enumerate() {
            let mut out = &layer.weights * activations.last().unwrap_or(input);
            let hidden = index + 1 < self.layers.len();
            for mut column in out.column_iter_mut() {
                column += &layer.bias;
                if hidden {
                    column.apply(|x| *x = x.max(0.0));
                }
            }
            if hidden {
                thin(&mut out);
            }
            activations.push(out);
        }
        activations
    }

    /// One step of gradient descent; `slope` turns the outputs into the loss's slope there. Of
    /// the hidden activations the share `dropout` is left out (Srivastava et al. 2014).
    pub(super) fn step(
        &mut self,
        input: &DMatrix<f32>,
        optimiser: &mut AdamW,
        (rate, dropout): (f32, f32),
        rng: &mut ChaCha8Rng,
        slope: impl FnOnce(&DMatrix<f32>) -> DMatrix<f32>,
    ) {
        let kept = 1.0 / (1.0 - dropout);
        let activations = self.activations(input, |hidden| {
            if dropout > 0.0 {
                hidden.apply(|x| {
                    *x = if rng.random::<f32>() < dropout {
                        0.0
                    } else {
                        *x * kept
                    };
                });
            }
        });
        let Some(mut delta) = activations.last().map(slope) else {
            return;
        };
        optimiser.steps += 1;
        for index in (0..self.layers.len()).rev() {
            let below = if index == 0 {
                input
            } else {
                &activations[index - 1]
            };
            let weights = &delta * below.transpose();
            let bias = DMatrix::from_column_slice(delta.nrows(), 1, delta.column_sum().as_slice());
            if index > 0 {
                let mut next = self.layers[index].weights.transpose() * &delta;
                next.zip_apply(below, |slope, activation| {
                    *slope *= if activation > 0.0 { kept } else { 0.0 };
                });
                delta = next;
            }
            let layer = &mut self.layers[index];
            let [w, b] = &mut optimiser.moments[index];
            w.update(&mut layer.weights, &weights, rate, DECAY, optimiser.steps);
            b.update(&mut layer.bias, &bias, rate, 0.0, optimiser.steps);
        }
    }

    /// As it is written.
    pub(super) fn layers(&self) -> Vec<RawLayer> {
        let round = super::marginals::round;
        let layer = |layer: &Layer| RawLayer {
            weights: layer
                .weights
                .row_iter()
                .map(|row| row.iter().map(|w| round(*w)).collect())
                .collect(),
            bias: layer.bias.iter().map(|b| round(*b)).collect(),
        };
        self.layers.iter().map(layer).collect()
    }
}

impl AdamW {
    pub(super) fn new(network: &Network) -> Self {
        let moments = |of: &DMatrix<f32>| Moments {
            first: DMatrix::zeros(of.nrows(), of.ncols()),
            second: DMatrix::zeros(of.nrows(), of.ncols()),
        };
        let pair = |layer: &Layer| [moments(&layer.weights), moments(&layer.bias)];
        Self {
            moments: network.layers.iter().map(pair).collect(),
            steps: 0,
        }
    }
}

impl Moments {
    fn update(
        &mut self,
        of: &mut DMatrix<f32>,
        slope: &DMatrix<f32>,
        rate: f32,
        decay: f32,
        step: i32,
    ) {
        let first_bias = 1.0 - BETA_1.powi(step);
        let second_bias = 1.0 - BETA_2.powi(step);
        let moments = self.first.iter_mut().zip(self.second.iter_mut());
        for ((weight, slope), (first, second)) in of.iter_mut().zip(slope.iter()).zip(moments) {
            *first += (1.0 - BETA_1) * (slope - *first);
            *second += (1.0 - BETA_2) * (slope * slope - *second);
            let step = *first / first_bias / ((*second / second_bias).sqrt() + 1e-8);
            *weight -= rate * (step + decay * *weight);
        }
    }
}
