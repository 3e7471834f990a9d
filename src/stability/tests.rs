//! Pushes, and what they find. The networks' part is in
//! `tests/it/stability.rs`.

use super::*;
use serde_json::json;

use crate::{
    inference::Scored,
    schema,
    screening::reference::{RawPush, RawStability},
    specimens::{self, Body},
};

/// A consensus that nobody looked at for stability.
pub(crate) fn unlooked(consensus: Consensus) -> Stable {
    let (row, clearance, mean) = consensus.into_parts();
    Stable {
        row,
        clearance,
        mean,
        stability: Stability::NotConfigured,
    }
}

#[test]
fn a_push_stays_within_the_uncertainty_and_the_possible() {
    let spec = specimens::icu();
    let feature = |name: &str| &spec.features[spec.by_name[name]];
    let sodium = feature("sodium");
    let step = sodium.uncertainty.as_ref().unwrap().at(140.0);
    assert!(step > 0.0 && step < 5.0);
    for (sign, pushed) in [(1.0, 140.0 + step), (-1.0, 140.0 - step), (0.0, 140.0)] {
        assert!((push(sodium, sign, 140.0) - pushed).abs() < 1e-12);
    }
    let most = sodium.possible.max;
    assert!((push(sodium, 1.0, most) - most).abs() < 1e-12);
    // What declares none does not move.
    assert!((push(feature("age"), 1.0, 70.0) - 70.0).abs() < 1e-12);
}

#[test]
fn the_edges_of_the_own_band_count() {
    let spec = specimens::icu();
    let logit = |p: f64| (p / (1.0 - p)).ln();
    for (p, down, up) in [
        (0.04, None, Some(0.05)),
        (0.05, Some(0.05), Some(0.15)),
        (0.14, Some(0.05), Some(0.15)),
        (0.99, Some(0.65), None),
    ] {
        let room = Room::of(&spec, p);
        let expected =
            |edge: Option<f64>| edge.map_or(f64::INFINITY, |edge| (logit(edge) - logit(p)).abs());
        let same = |a: f64, b: f64| (a.is_infinite() && b.is_infinite()) || (a - b).abs() < 1e-12;
        assert!(
            same(room.up, expected(up)) && same(room.down, expected(down)),
            "{p}: {room:?}"
        );
    }
}

#[test]
fn a_pattern_is_tried_on_those_whom_it_may_move() {
    let push = |up, down| RawPush {
        signs: vec![1],
        up,
        down,
    };
    let pushes = [push(0.2, 0.0), push(0.0, 0.3), push(0.5, 0.4)];
    let pushes = Pushes::new(
        &RawStability {
            pushes: pushes.to_vec(),
        },
        1,
    )
    .unwrap();
    for (up, down, tried) in [
        (f64::INFINITY, f64::INFINITY, 0),
        (0.6, 0.5, 0),
        (0.4, f64::INFINITY, 1),
        (0.2, f64::INFINITY, 2),
        (f64::INFINITY, 0.3, 2),
        (f64::INFINITY, 0.0, 2),
        (0.1, 0.1, 3),
    ] {
        assert_eq!(pushes.within(Room { up, down }).len(), tried, "{up} {down}");
    }
}

#[test]
fn patterns_are_checked_when_they_are_read() {
    let raw = |up, down, pushes: &[&[i8]]| RawStability {
        pushes: pushes
            .iter()
            .map(|signs| RawPush {
                signs: signs.to_vec(),
                up,
                down,
            })
            .collect(),
    };
    assert!(Pushes::new(&raw(0.2, 0.0, &[&[1, -1], &[0, 1]]), 2).is_ok());
    for wrong in [
        raw(0.0, 0.0, &[&[1, 1]]),
        raw(f64::NAN, 0.1, &[&[1, 1]]),
        raw(-0.1, 0.1, &[&[1, 1]]),
        raw(0.1, 11.0, &[&[1, 1]]),
        raw(0.2, 0.2, &[]),
        raw(0.2, 0.2, &[&[1]]),
        raw(0.2, 0.2, &[&[1, 2]]),
        raw(0.2, 0.2, &[&[1, 1][..]; 65]),
    ] {
        assert!(Pushes::new(&wrong, 2).is_err(), "{wrong:?}");
    }
}

/// A row for which the two members said `own`, and for one copy of it `copy`.
fn judged(
    policy: &str,
    own: [MemberOutput; 2],
    copies: &[[MemberOutput; 2]],
) -> Result<Stable, Withheld> {
    let spec = specimens::icu_with(|m| m["stability"] = json!({"policy": policy})).unwrap();
    let mut row = schema::parse(&spec, &Body::icu().bytes())
        .unwrap()
        .into_row();
    for (member, output) in own.into_iter().enumerate() {
        row.set_output(member, 0, output);
    }
    let mean = consensus::mean(consensus::probabilities(row.outputs()).expose());
    row.push(&vec![&[][..]; copies.len()], |_, value| [value; 3]);
    for (copy, outputs) in copies.iter().enumerate() {
        for (member, output) in outputs.iter().enumerate() {
            row.set_output(member, copy, *output);
        }
    }
    judge(row, Clearance::Clear, Phi::new(mean))
}

const P: fn(f32) -> MemberOutput = MemberOutput::Probability;

#[test]
fn a_copy_that_a_member_did_not_answer_was_not_looked_at() {
    for bad in [MemberOutput::Failed, MemberOutput::Invalid] {
        // Not even when the other member answers for it, or for another copy both do.
        for copies in [
            vec![[P(0.14), bad]],
            vec![[P(0.14), P(0.14)], [bad, P(0.14)]],
        ] {
            let stable = judged("annotate", [P(0.14), P(0.14)], &copies).unwrap();
            assert_eq!(stable.stability, Stability::NotRun);
            assert!(stable.row.reasons.is_empty());
            let lost = &stable.row.lost;
            assert!(lost.len() == 1 && lost[0].on_copy, "{lost:?}");

            let withheld = judged("review", [P(0.14), P(0.14)], &copies).unwrap_err();
            let reason = &withheld.reasons[0];
            assert_eq!(
                (reason.code, reason.words),
                (Code::MemberFailed, Words::Unlooked)
            );
            assert!(withheld.agreed && withheld.predictable && withheld.lost.len() == 1);
        }
    }
    let stable = judged("review", [P(0.14), P(0.14)], &[[P(0.14), P(0.14)]]).unwrap();
    assert_eq!(stable.stability, Stability::Holds);
}

#[test]
fn row_and_copy_are_the_same_members_means() {
    // As many answered for the copy, and others: their mean says nothing about the row's.
    let failed = MemberOutput::Failed;
    let stable = judged("annotate", [P(0.14), failed], &[[failed, P(0.9)]]).unwrap();
    assert_eq!(stable.stability, Stability::NotRun);
    // Who was lost on the row is not asked about its copies.
    let stable = judged("annotate", [P(0.14), failed], &[[P(0.14), P(0.9)]]).unwrap();
    assert_eq!(stable.stability, Stability::Holds);
}

#[test]
fn no_band_is_in_a_withheld_review() {
    let copies = [[P(0.2), P(0.2)]];
    let withheld = judged("review", [P(0.14), P(0.14)], &copies).unwrap_err();
    assert_eq!(withheld.reasons[0].words, Words::Unstable);
    let stable = judged("annotate", [P(0.14), P(0.14)], &copies).unwrap();
    let words = Words::UnstableBetween { low: 1, high: 2 };
    assert_eq!(stable.row.reasons[0].words, words);
}
