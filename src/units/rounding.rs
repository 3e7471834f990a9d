//! Rounding to the measurement step, which removes the digits no instrument gave.

/// Powers of ten, to write a step as a whole number over one of them.
const TENS: [f64; 13] = [
    1.0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12,
];

/// Whole numbers up to here are exact in an `f64`.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// A value on its measurement grid.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rounded {
    /// The nearest multiple of the step.
    pub value: f64,
    /// Whether more digits were sent than the step has; a value kept as a `float32` on its way
    /// (37.099998474 for 37.1) has not changed.
    pub changed: bool,
}

/// Rounds to the nearest multiple of `step`, halves away from zero, as a person rounds a printed
/// number. The result is the `f64` nearest the decimal: 37.1, not 37.1000000001.
///
/// A value that is not finite, too large for its digits to matter, or a step that is not a
/// positive number leaves the value as it is.
pub fn round_to_step(value: f64, step: f64) -> Rounded {
    let rounded = on_grid(value, step).unwrap_or(value);
    let tolerance = value.abs() * f64::from(f32::EPSILON);
    Rounded {
        value: rounded,
        changed: (rounded - value).abs() > tolerance,
    }
}

fn on_grid(value: f64, step: f64) -> Option<f64> {
    if !(value.is_finite() && step.is_normal() && step > 0.0) {
        return None;
    }
    // step = units / ten; both are whole, so units × count is exact and one division gives the
    // nearest f64.
    let decimal = TENS.into_iter().find_map(|ten| {
        let units = (step * ten).round();
        (units >= 1.0 && (step * ten - units).abs() <= units * 1e-12).then_some((units, ten))
    });
    let (units, ten) = decimal.unwrap_or((step, 1.0));
    let count = (value * ten / units).round();
    // Adding zero makes a negative zero positive.
    ((count * units).abs() < EXACT).then(|| count * units / ten + 0.0)
}
