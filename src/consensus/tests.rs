//! Agreement of the members, and what a lost one leads to.

use std::sync::Arc;

use serde_json::json;

use super::*;
use crate::{
    bundle::model::ModelSpec,
    clinical, hardening,
    inference::Scored,
    schema, screening,
    specimens::{self, Body},
};

const FAILED: MemberOutput = MemberOutput::Failed;

/// A patient up to where the networks would run.
pub(crate) fn cleared(spec: &Arc<ModelSpec>, body: &Body) -> Result<Cleared, Withheld> {
    let observed = schema::parse(spec, &body.bytes()).unwrap();
    let plausible = clinical::check_ranges(observed).unwrap();
    let consistent = clinical::check_consistency(plausible).unwrap();
    review::clear(screening::check_distribution(None, consistent))
}

/// A patient whose members gave these outputs.
pub(crate) fn scored(spec: &Arc<ModelSpec>, body: &Body, outputs: &[MemberOutput]) -> Scores {
    let (mut row, _) = cleared(spec, body).unwrap().into_parts();
    for (member, output) in outputs.iter().enumerate() {
        row.set_output(member, 0, *output);
    }
    Scores { row }
}

/// A patient whose members gave these probabilities.
pub(crate) fn probabilities(spec: &Arc<ModelSpec>, p: &[f32]) -> Scores {
    let outputs: Vec<_> = p.iter().map(|&p| MemberOutput::Probability(p)).collect();
    scored(spec, &Body::icu(), &outputs)
}

/// The model with its predictions attached to reviews.
pub(crate) fn attaching() -> Arc<ModelSpec> {
    specimens::icu_with(|m| m["review"]["policy"] = json!("attach")).unwrap()
}

fn codes(reasons: &[ReviewReason]) -> Vec<&'static str> {
    reasons.iter().map(|r| r.code.as_str()).collect()
}

#[test]
fn the_mean_is_taken_of_members_that_agree() {
    let (row, clearance, mean) = agree(None, probabilities(&specimens::icu(), &[0.25, 0.5]))
        .unwrap()
        .into_parts();
    assert_eq!(*mean.expose(), 0.375);
    assert_eq!(clearance, Clearance::Clear);
    assert!(row.reasons.is_empty());
}

#[test]
fn one_member_is_its_own_mean() {
    let spec = specimens::breast();
    let outputs = [MemberOutput::Probability(0.75)];
    let consensus = agree(None, scored(&spec, &Body::breast(), &outputs)).unwrap();
    assert_eq!(*consensus.into_parts().2.expose(), 0.75);
}

#[test]
fn the_bound_is_on_logits() {
    // The bound is 1.377: 0.5 against logistic(1.377) = 0.79853.
    for (a, b, agreed) in [
        (0.5, 0.798, true),
        (0.5, 0.799, false),
        (0.799, 0.5, false),
        // The same distance means more near certainty.
        (0.001, 0.1, false),
        (0.5, 0.599, true),
        // Certainty is finite, and two certain members agree.
        (0.0, 0.0, true),
        (1.0, 1.0, true),
        (0.0, 1.0, false),
        (1.0, 0.999, false),
        (0.0, 1e-7, true),
    ] {
        let outcome = agree(None, probabilities(&specimens::icu(), &[a, b]));
        assert_eq!(outcome.is_ok(), agreed, "{a} {b}");
        if let Err(withheld) = outcome {
            assert_eq!(codes(&withheld.reasons), ["DISAGREEMENT"]);
        }
    }
}

#[test]
fn a_lost_member_is_never_left_out() {
    let lone = MemberOutput::Probability(0.4);
    for outputs in [
        [FAILED, lone],
        [lone, FAILED],
        [FAILED, FAILED],
        [lone, MemberOutput::Invalid],
    ] {
        for spec in [specimens::icu(), attaching()] {
            let withheld = agree(None, scored(&spec, &Body::icu(), &outputs)).unwrap_err();
            assert_eq!(codes(&withheld.reasons), ["MEMBER_FAILED"]);
        }
    }
}

/// With a quorum of one.
fn quorum(degraded: &str) -> Arc<ModelSpec> {
    specimens::icu_with(|m| {
        m["agreement"]["quorum"] = json!(1);
        m["agreement"]["degraded"] = json!(degraded);
    })
    .unwrap()
}

#[test]
fn the_bundle_says_how_many_may_be_lost_and_what_then() {
    let lone = MemberOutput::Probability(0.5);
    let spec = quorum("annotate");
    let consensus = agree(None, scored(&spec, &Body::icu(), &[FAILED, lone])).unwrap();
    let hardened = hardening::tests::in_full(consensus);
    assert_eq!(hardened.clearance, Clearance::Clear);
    assert_eq!(*hardened.probability().unwrap().expose(), 0.5);
    let first = Lost {
        member: 0,
        cause: Loss::Failed,
        on_copy: false,
    };
    assert_eq!(*hardened.lost, [first]);

    let spec = quorum("review");
    let outputs = [lone, MemberOutput::Invalid];
    let withheld = agree(None, scored(&spec, &Body::icu(), &outputs)).unwrap_err();
    assert_eq!(codes(&withheld.reasons), ["MEMBER_FAILED"]);
    assert!(withheld.predictable);
    let second = Lost {
        member: 1,
        cause: Loss::Invalid,
        on_copy: false,
    };
    assert_eq!(*withheld.lost, [second]);

    for spec in [quorum("review"), quorum("annotate")] {
        let none = [FAILED, MemberOutput::Invalid];
        let withheld = agree(None, scored(&spec, &Body::icu(), &none)).unwrap_err();
        assert_eq!(codes(&withheld.reasons), ["MEMBER_FAILED"]);
        assert!(!withheld.predictable);
        assert_eq!(withheld.lost.len(), 2);
    }
    for wrong in [0, 3] {
        let spec = specimens::icu_with(|m| m["agreement"]["quorum"] = json!(wrong));
        assert!(spec.unwrap_err().contains("quorum"));
    }
}

#[test]
fn what_a_person_has_to_look_at_is_not_scored() {
    let fever = Body::icu().with("temperature", "43.1");
    let withheld = cleared(&specimens::icu(), &fever).unwrap_err();
    assert_eq!(codes(&withheld.reasons), ["OUTSIDE_EXPECTED"]);
}

#[test]
fn the_policy_attach_releases_what_withhold_keeps() {
    let spec = attaching();
    let outputs = [0.1, 0.9].map(MemberOutput::Probability);
    let released =
        agree(None, scored(&spec, &Body::icu(), &outputs)).map(hardening::tests::in_full);
    let released = released.unwrap();
    assert_eq!(released.clearance, Clearance::Attached);
    assert_eq!(codes(&released.reasons), ["DISAGREEMENT"]);
    assert_eq!(*released.probability().unwrap().expose(), 0.5);

    // A reason of an earlier screen and one of this are both told.
    let fever = Body::icu().with("temperature", "43.1").without("magnesium");
    let released = agree(None, scored(&spec, &fever, &outputs)).map(hardening::tests::in_full);
    let released = released.unwrap();
    assert_eq!(released.clearance, Clearance::Attached);
    assert_eq!(
        codes(&released.reasons),
        ["OUTSIDE_EXPECTED", "DISAGREEMENT"]
    );
    assert_eq!(released.handling.imputed.len(), 1);

    // An earlier reason stays attached when the members agree.
    let outputs = [0.2, 0.2].map(MemberOutput::Probability);
    let released = agree(None, scored(&spec, &fever, &outputs)).map(hardening::tests::in_full);
    assert_eq!(released.unwrap().clearance, Clearance::Attached);

    // And a lost member takes the prediction back, with every reason.
    let withheld = agree(None, scored(&spec, &fever, &[FAILED, outputs[0]])).unwrap_err();
    assert_eq!(
        codes(&withheld.reasons),
        ["OUTSIDE_EXPECTED", "MEMBER_FAILED"]
    );
}

#[test]
fn no_stage_prints_a_score() {
    let scores = probabilities(&specimens::icu(), &[0.271_828_2, 0.271_828_2]);
    let scores_text = format!("{scores:?}");
    let consensus = agree(None, scores).unwrap();
    let consensus_text = format!("{consensus:?}");
    let hardened = hardening::tests::in_full(consensus);
    let probability = format!("{:?}", hardened.probability());
    assert_eq!(probability, "Some(Phi(…))");
    for text in [scores_text, consensus_text, format!("{hardened:?}")] {
        assert!(!text.contains("0.2718"), "{text}");
    }
    assert!(!format!("{:?}", MemberOutput::Probability(0.271_828_2)).contains("0.2718"));
}
