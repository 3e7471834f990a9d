//! How far the networks disagree about patients whom they have not seen.

use vitalgate::{
    bundle::model::ModelSpec,
    consensus::logit_spread,
    screening::{
        fit::{Admitted, Earlier, one_each},
        reference::RawAgreement,
    },
    training_data::Table,
};

use super::{Failure, Networks};

/// The largest difference between two members' logits, ascending: for a row of each patient whom
/// `asked` admits, one of those that the screens before the networks let through.
pub(super) fn spreads(
    spec: &ModelSpec,
    networks: &Networks,
    table: &Table,
    (seed, asked): (u64, impl Fn(u64) -> bool),
) -> Result<Vec<f64>, Failure> {
    let probabilities = networks.probabilities(table)?;
    let rows = table.rows().zip(&probabilities).enumerate();
    let measured: Vec<(u64, f64)> = rows
        .filter(|(_, (row, p))| !p.is_empty() && Admitted::stage(spec, row) == Earlier::Passes)
        .map(|(index, (_, p))| (Admitted::group(table, index, 0), logit_spread(p)))
        .filter(|(patient, spread)| asked(*patient) && spread.is_finite())
        .collect();
    let people = one_each(measured.iter().map(|(patient, _)| *patient), seed).into_iter();
    let mut spreads: Vec<f64> = people
        .filter_map(|place| measured.get(place))
        .map(|(_, spread)| *spread)
        .collect();
    spreads.sort_by(f64::total_cmp);
    Ok(spreads)
}

/// The conformal bound: a new patient exceeds it with probability at most `alpha`. `None` with
/// fewer than 1 / alpha − 1 patients.
pub(super) fn calibrate(spreads: &[f64], alpha: f64) -> Option<RawAgreement> {
    // Written with three decimals, upwards, as float32.
    #[expect(clippy::cast_possible_truncation, reason = "read as float32")]
    let calibration: Vec<f32> = (spreads.iter())
        .map(|spread| ((spread * 1e3).ceil() / 1e3) as f32)
        .collect();
    let n = f64::from(u32::try_from(calibration.len()).ok()?);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a rank among patients"
    )]
    let rank = ((n + 1.0) * (1.0 - alpha)).ceil() as usize;
    Some(RawAgreement {
        alpha,
        bound: f64::from(*calibration.get(rank.checked_sub(1)?)?),
        calibration,
    })
}
