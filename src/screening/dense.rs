//! A matrix times a vector, laid out so that the compiler makes vector instructions of it: those
//! of the processor that it runs on (AVX2, where that has it). Every output is summed up in the same
//! order on all of them.

use std::array::from_fn;

use pulp::{Arch, NullaryFnOnce};

/// Outputs computed side by side; the rows of a block lie interleaved. Enough of them that sums
/// need not wait for each other.
const LANES: usize = 32;

/// `outputs × inputs` weights and a bias, in float32.
#[derive(Clone, Debug)]
pub(super) struct Dense {
    /// For each block of outputs, for each input, the weights of the block's outputs.
    blocks: Vec<Vec<[f32; LANES]>>,
    bias: Vec<[f32; LANES]>,
    arch: Arch,
}

impl Dense {
    /// From rows of weights, all as long as the input.
    pub(super) fn new(rows: &[&[f32]], bias: &[f32]) -> Self {
        let inputs = rows.first().map_or(0, |row| row.len());
        let blocks = rows.chunks(LANES).map(|rows| {
            // The last row fills its block up: whatever it is near to, the block's are.
            let row = |lane: usize| rows.get(lane).or(rows.last());
            let weight = |lane: usize, input: usize| row(lane)?.get(input).copied();
            let column = |input| from_fn(|lane| weight(lane, input).unwrap_or_default());
            (0..inputs).map(column).collect()
        });
        let bias = bias.chunks(LANES).map(|part| {
            let mut lanes = [0.0; LANES];
            for (lane, value) in lanes.iter_mut().zip(part) {
                *lane = *value;
            }
            lanes
        });
        Self {
            blocks: blocks.collect(),
            bias: bias.collect(),
            arch: Arch::new(),
        }
    }

    /// Numbers that [`Dense::apply`] writes: the outputs, and what fills their last block up.
    pub(super) fn width(&self) -> usize {
        self.blocks.len() * LANES
    }

    /// Writes the product to `output`, [`Dense::width`] long.
    pub(super) fn apply(&self, input: &[f32], output: &mut [f32]) {
        self.arch.dispatch(Product(self, input, output));
    }

    /// Smallest square of the distance from `point` to a row; the bias is not used.
    pub(super) fn nearest(&self, point: &[f32]) -> f32 {
        self.arch.dispatch(Nearest(self, point))
    }
}

/// [`Dense::apply`], compiled for each kind of processor.
struct Product<'a>(&'a Dense, &'a [f32], &'a mut [f32]);

impl NullaryFnOnce for Product<'_> {
    type Output = ();

    #[inline(always)]
    #[expect(clippy::inline_always, reason = "as `Arch::dispatch` asks")]
    fn call(self) {
        let Self(dense, input, output) = self;
        let (output, _) = output.as_chunks_mut::<LANES>();
        for ((out, block), bias) in output.iter_mut().zip(&dense.blocks).zip(&dense.bias) {
            let mut sums = *bias;
            for (weights, &x) in block.iter().zip(input) {
                for (sum, weight) in sums.iter_mut().zip(weights) {
                    *sum += weight * x;
                }
            }
            *out = sums;
        }
    }
}

/// [`Dense::nearest`], compiled for each kind of processor.
struct Nearest<'a>(&'a Dense, &'a [f32]);

impl NullaryFnOnce for Nearest<'_> {
    type Output = f32;

    #[inline(always)]
    #[expect(clippy::inline_always, reason = "as `Arch::dispatch` asks")]
    fn call(self) -> f32 {
        let Self(dense, point) = self;
        let mut nearest = [f32::INFINITY; LANES];
        for block in &dense.blocks {
            let mut sums = [0.0; LANES];
            for (weights, &x) in block.iter().zip(point) {
                for (sum, weight) in sums.iter_mut().zip(weights) {
                    let difference = x - weight;
                    *sum += difference * difference;
                }
            }
            for (nearest, &sum) in nearest.iter_mut().zip(&sums) {
                *nearest = if sum < *nearest { sum } else { *nearest };
            }
        }
        nearest.into_iter().fold(f32::INFINITY, f32::min)
    }
}

/// e to the power of each number, for numbers of at most 0; the relative error is below 1e-5.
///
/// The standard function is a call per number, and there are hundreds of numbers a patient.
// Inlined, so that it is compiled for the processor that it runs on.
#[inline(always)]
pub(super) fn exp_in_place(numbers: &mut [f32]) {
    /// Adding it leaves the nearest whole number in the lowest bits.
    const ROUND: f32 = 12_582_912.0;
    for number in numbers {
        let power = number.max(-87.0) * std::f32::consts::LOG2_E;
        let rounded = power + ROUND;
        let rest = (power - (rounded - ROUND)) * std::f32::consts::LN_2;
        let series = 1.0
            + rest * (1.0 + rest * (0.5 + rest * (1.0 / 6.0 + rest * (1.0 / 24.0 + rest / 120.0))));
        *number = f32::from_bits(series.to_bits().wrapping_add(rounded.to_bits() << 23));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_are_those_of_the_rows() {
        let rows: Vec<Vec<f32>> = (0..21_u8)
            .map(|o| {
                (0..5_u8)
                    .map(|i| f32::from(o) - 2.0 * f32::from(i))
                    .collect()
            })
            .collect();
        let rows: Vec<&[f32]> = rows.iter().map(Vec::as_slice).collect();
        let bias: Vec<f32> = (0..21_u8).map(f32::from).collect();
        let dense = Dense::new(&rows, &bias);
        let input = [0.5, -1.0, 2.0, 0.25, 3.0];
        let mut output = vec![f32::NAN; dense.width()];
        dense.apply(&input, &mut output);
        for ((row, bias), found) in rows.iter().zip(&bias).zip(&output) {
            let expected: f32 = bias + row.iter().zip(&input).map(|(w, x)| w * x).sum::<f32>();
            assert!((expected - found).abs() < 1e-4);
        }
        let distance =
            |row: &&[f32]| -> f32 { row.iter().zip(&input).map(|(w, x)| (w - x) * (w - x)).sum() };
        let nearest = rows.iter().map(distance).fold(f32::INFINITY, f32::min);
        assert!((dense.nearest(&input) - nearest).abs() < 1e-4);
        // What fills the last block up is no row at zero, which would be nearer than any.
        let norms = rows.iter().map(|row| row.iter().map(|w| w * w).sum());
        let shortest: f32 = norms.fold(f32::INFINITY, f32::min);
        assert!(shortest > 1.0 && (dense.nearest(&[0.0; 5]) - shortest).abs() < 1e-4);
    }

    #[test]
    fn the_exponential_is_close() {
        let numbers: Vec<f32> = (0..8_600_u16).map(|i| -0.01 * f32::from(i)).collect();
        let mut found = numbers.clone();
        exp_in_place(&mut found);
        for (x, found) in numbers.iter().zip(found) {
            assert!((found / x.exp() - 1.0).abs() < 1e-5, "{x}: {found}");
        }
        let mut far = [-1e9];
        exp_in_place(&mut far);
        assert!(far[0] >= 0.0 && far[0] < 1e-30);
    }
}
