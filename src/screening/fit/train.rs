//! Teachers on corrupted copies, and one student that learns what they say.

use nalgebra::DMatrix;
use rand::{RngExt, SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;

use super::{
    Options, Progress, Space,
    corruption::Copy,
    network::{AdamW, Network},
};

/// Half of a batch are patients, half are corrupted copies.
const HALF_BATCH: usize = 128;
const RATE: f32 = 2e-3;
/// Of the scores, as of a measurement made twice. More of it blurs how values go together: with 0.15
/// a screen found less in every respect.
const JITTER: f32 = 0.04;
/// Without it, a few thousand patients are learned by heart.
const DROPOUT: f32 = 0.3;
/// Width of a hidden layer of a teacher.
const TEACHER: usize = 112;
/// Weight of the features' losses, together, beside the row's.
const FEATURES_WEIGHT: f32 = 3.0;

/// A batch: inputs and, for each feature and the row, whether it was replaced.
struct Batch {
    input: DMatrix<f32>,
    replaced: DMatrix<f32>,
}

/// The trained network.
pub(super) fn train(space: &Space, options: &Options, progress: &dyn Progress) -> Network {
    let d = space.traits.len();
    let quality = options.quality.settings();
    let teachers: Vec<Network> = (0..quality.teachers)
        .map(|index| {
            let mut rng = ChaCha8Rng::seed_from_u64(options.seed.wrapping_add(1000 + index));
            let widths = [4 * d, TEACHER, TEACHER, d + 1];
            let mut network = Network::new(&widths, &mut rng);
            let mut optimiser = AdamW::new(&network);
            let mut tick = schedule(space, quality.epochs);
            while let Some((rate, rows)) = tick.next(&mut rng) {
                let batch = batch(space, &rows, options.templates, &mut rng);
                let how = (rate, DROPOUT);
                network.step(&batch.input, &mut optimiser, how, &mut rng, |logits| {
                    cross_entropy(logits, &batch.replaced)
                });
                progress.advance(1);
            }
            network
        })
        .collect();
    if let [only] = teachers.as_slice() {
        return only.clone();
    }
    distil(space, options, &teachers, progress)
}

/// One network that says what the teachers say on average.
fn distil(
    space: &Space,
    options: &Options,
    teachers: &[Network],
    progress: &dyn Progress,
) -> Network {
    let d = space.traits.len();
    let mut rng = ChaCha8Rng::seed_from_u64(options.seed.wrapping_add(2000));
    let mut student = Network::new(&[4 * d, 112, 96, d + 1], &mut rng);
    let mut optimiser = AdamW::new(&student);
    let mut tick = schedule(space, options.quality.settings().student_epochs);
    #[expect(clippy::cast_precision_loss, reason = "a handful of teachers")]
    let share = 1.0 / teachers.len() as f32;
    while let Some((rate, rows)) = tick.next(&mut rng) {
        let batch = batch(space, &rows, options.templates, &mut rng);
        let mut said = DMatrix::zeros(d + 1, batch.input.ncols());
        for teacher in teachers {
            said += teacher.run(&batch.input) * share;
        }
        student.step(
            &batch.input,
            &mut optimiser,
            (rate, 0.0),
            &mut rng,
            |logits| huber(logits, &said),
        );
        progress.advance(1);
    }
    student
}

/// Steps that [`train`] takes.
pub(super) fn steps(groups: usize, options: &Options) -> u64 {
    let quality = options.quality.settings();
    let per_epoch = groups.div_ceil(HALF_BATCH) as u64;
    let student = if quality.teachers > 1 {
        quality.student_epochs
    } else {
        0
    };
    per_epoch * (quality.teachers * quality.epochs + student)
}

/// Goes through the patients in a new order each epoch, with a falling rate.
struct Schedule<'s> {
    space: &'s Space,
    order: Vec<usize>,
    left: Vec<usize>,
    step: u64,
    steps: u64,
}

fn schedule(space: &Space, epochs: u64) -> Schedule<'_> {
    let order: Vec<usize> = (0..space.groups.len()).collect();
    let per_epoch = order.len().div_ceil(HALF_BATCH) as u64;
    Schedule {
        space,
        order,
        left: Vec::new(),
        step: 0,
        steps: epochs * per_epoch,
    }
}

impl Schedule<'_> {
    #[expect(clippy::cast_precision_loss, reason = "thousands of steps")]
    fn next(&mut self, rng: &mut ChaCha8Rng) -> Option<(f32, Vec<usize>)> {
        if self.step == self.steps {
            return None;
        }
        if self.left.is_empty() {
            self.order.shuffle(rng);
            self.left.clone_from(&self.order);
        }
        let done = self.step as f32 / self.steps as f32;
        let rate = RATE * 0.5 * (1.0 + (std::f32::consts::PI * done).cos());
        self.step += 1;
        let take = self.left.len().saturating_sub(HALF_BATCH);
        // Of each patient one row, any of those there are.
        let rows = self.left.drain(take..).map(|group| {
            let rows = &self.space.groups[group];
            rows[rng.random_range(0..rows.len())]
        });
        Some((rate, rows.collect()))
    }
}

fn batch(space: &Space, rows: &[usize], templates: bool, rng: &mut ChaCha8Rng) -> Batch {
    let d = space.traits.len();
    let mut input = DMatrix::zeros(4 * d, 2 * rows.len());
    let mut replaced = DMatrix::zeros(d + 1, 2 * rows.len());
    let mut copy = Copy::default();
    for (at, &row) in rows.iter().chain(rows).enumerate() {
        copy.of(space, row);
        if at >= rows.len() {
            copy.corrupt(space, row, templates, rng);
        }
        copy.jitter(space, JITTER, rng);
        copy.hide(rng);
        space.network_input(&copy.z, input.column_mut(at).as_mut_slice());
        let mut labels = replaced.column_mut(at);
        let mut any = 0.0;
        for (label, is) in labels.iter_mut().zip(&copy.replaced) {
            if *is {
                *label = 1.0;
                any = 1.0;
            }
        }
        labels[d] = any;
    }
    Batch { input, replaced }
}

fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

/// Slope of the binary cross-entropy, features and row.
#[expect(clippy::cast_precision_loss, reason = "a batch")]
fn cross_entropy(logits: &DMatrix<f32>, replaced: &DMatrix<f32>) -> DMatrix<f32> {
    let (d, n) = (logits.nrows() - 1, logits.ncols() as f32);
    let feature = FEATURES_WEIGHT / d as f32;
    let mut slope = logits.zip_map(replaced, |logit, label| (sigmoid(logit) - label) / n);
    slope.rows_mut(0, d).scale_mut(feature);
    slope
}

/// Slope of the smooth L1 loss.
#[expect(clippy::cast_precision_loss, reason = "a batch")]
fn huber(logits: &DMatrix<f32>, said: &DMatrix<f32>) -> DMatrix<f32> {
    let (d, n) = (logits.nrows() - 1, logits.ncols() as f32);
    let mut slope = logits.zip_map(said, |logit, said| (logit - said).clamp(-1.0, 1.0) / n);
    slope.rows_mut(0, d).scale_mut(FEATURES_WEIGHT / d as f32);
    slope
}
