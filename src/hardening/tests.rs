//! What is released, and that the band says no more than it.

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::{
    consensus::{Consensus, agree, tests::probabilities},
    specimens,
    stability::tests::unlooked,
};

/// For a caller against whom nothing speaks, and who may see what the bundle releases.
pub(crate) fn in_full(consensus: Consensus) -> Hardened {
    let charged = Charged::example(Detail::Full);
    release(unlooked(consensus), &charged, Uncontained::example(), None)
}

fn released(spec: &Arc<ModelSpec>, p: f32) -> (f64, String) {
    let hardened = in_full(agree(None, probabilities(spec, &[p, p])).unwrap());
    let probability = *hardened.probability().unwrap().expose();
    (probability, hardened.band().to_owned())
}

/// As [`released`], for a caller with this permission who gets so much.
fn released_for(detail: Detail, action: Action, model: &str) -> (Option<f64>, Option<f64>, String) {
    let spec = specimens::icu();
    let consensus = agree(None, probabilities(&spec, &[0.123_456_7, 0.123_456_7])).unwrap();
    let (charged, grant) = (Charged::example(detail), Grant::example(action, model));
    let hardened = release(
        unlooked(consensus),
        &charged,
        Uncontained::example(),
        Some(&grant),
    );
    let probability = hardened.probability().map(|p| *p.expose());
    (
        probability,
        hardened.precision(),
        hardened.band().to_owned(),
    )
}

#[test]
fn six_decimals_are_for_who_may_read_precise_and_bands_for_who_asked_too_much() {
    use Action::{Predict, ReadPrecise};
    let low = "low".to_owned();
    let name = specimens::icu().name.clone();
    let of = |detail, action, model: &str| released_for(detail, action, model);
    let precise = (Some(0.123_457), Some(1e-6), low.clone());
    assert_eq!(of(Detail::Full, ReadPrecise, &name), precise);
    let coarse = (Some(0.1), Some(0.1), low.clone());
    assert_eq!(of(Detail::Full, Predict, &name), coarse);
    assert_eq!(of(Detail::Full, ReadPrecise, "another"), coarse);
    let band = (None, None, low);
    for action in [ReadPrecise, Predict] {
        assert_eq!(of(Detail::Band, action, &name), band);
        assert_eq!(of(Detail::Withheld, action, &name), band);
    }
}

fn with_output(precision: f64, edges: &[f64]) -> Result<Arc<ModelSpec>, String> {
    specimens::icu_with(|m| {
        m["output"]["precision"] = json!(precision);
        let mut bands: Vec<_> = edges
            .iter()
            .map(|e| json!({"name": format!("below {e}"), "below": e}))
            .collect();
        bands.push(json!({"name": "rest"}));
        m["outcome"]["bands"] = json!(bands);
    })
}

#[test]
fn probabilities_are_released_in_tenths() {
    for (p, probability, band) in [
        (0.0, 0.0, "very low"),
        (0.0499, 0.0, "very low"),
        (0.0501, 0.1, "low"),
        (0.1499, 0.1, "low"),
        (0.1501, 0.2, "moderate"),
        (0.3499, 0.3, "moderate"),
        (0.3501, 0.4, "high"),
        (0.6499, 0.6, "high"),
        (0.6501, 0.7, "very high"),
        (0.9499, 0.9, "very high"),
        (1.0, 1.0, "very high"),
    ] {
        assert_eq!(
            released(&specimens::icu(), p),
            (probability, band.to_owned()),
            "{p}"
        );
    }
}

#[test]
fn a_band_edge_is_a_half_step_or_the_model_is_not_loaded() {
    assert!(with_output(0.1, &[0.25, 0.75]).is_ok());
    assert!(with_output(0.01, &[0.125, 0.755]).is_ok());
    for (precision, edges) in [
        (0.1, vec![0.3]),
        (0.1, vec![0.25, 0.5]),
        (0.1, vec![0.249]),
        (0.1, vec![0.75, 0.25]),
        (0.1, vec![0.25, 0.25]),
        (0.1, vec![-0.05]),
        (0.1, vec![1.05]),
        (0.0, vec![]),
        (-0.1, vec![]),
        (0.6, vec![]),
    ] {
        assert!(
            with_output(precision, &edges).is_err(),
            "{precision} {edges:?}"
        );
    }
}

#[test]
fn a_step_that_does_not_divide_one_is_not_loaded() {
    // In steps of 0.35 a probability of 0.99 would leave as 1.05.
    for precision in [0.35, 0.15, 0.3, 0.499] {
        assert!(with_output(precision, &[]).is_err(), "{precision}");
    }
    for precision in [0.5, 0.25, 0.2, 0.1, 0.05, 0.01, 0.001, 1.0 / 3.0] {
        assert!(with_output(precision, &[]).is_ok(), "{precision}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_band_is_a_function_of_what_is_released(
        p in 0.0_f32..=1.0, step in prop::sample::select(vec![0.5, 0.25, 0.2, 0.1, 0.05, 0.01, 0.001]),
    ) {
        let edges: Vec<f64> = [0.5, 1.5].iter().map(|half| half * step).filter(|e| *e < 1.0).collect();
        let spec = with_output(step, &edges).unwrap();
        let (probability, band) = released(&spec, p);
        prop_assert!((0.0..=1.0).contains(&probability));
        prop_assert!((probability - f64::from(p)).abs() <= step / 2.0 + 1e-9);
        // Whoever holds the released number alone finds the same band.
        let again = spec.outcome.bands.iter().find(|b| b.below.is_none_or(|e| probability < e));
        prop_assert_eq!(&again.unwrap().name, &band);
        // And two patients with the same number have the same band, whatever the networks said.
        #[expect(clippy::cast_possible_truncation, reason = "the networks compute in float32")]
        let middle = released(&spec, probability as f32);
        prop_assert_eq!(middle, (probability, band));
    }
}
