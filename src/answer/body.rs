//! The body of an answer that judges a patient: a prediction, or a review.

use serde::{Serialize, Serializer, ser::SerializeMap};

use super::{Disposition, Language, ModelName, model};
use crate::{
    bundle::{
        LoadedModel,
        model::{ModelSpec, StabilityPolicy},
    },
    consensus::Lost,
    disposition::{Code, Finding, ReviewReason, Words},
    hardening::Hardened,
    phi::Phi,
    review::{Clearance, Handling, Opened, OverrideReason, Withheld},
    row::FeatureSet,
    screening::{Channel, Oddness, Screen},
    stability::Stability,
    trail::Trail,
};

#[derive(Serialize)]
pub(super) struct Answer<'a> {
    id: &'a str,
    disposition: &'static str,
    /// A person let the prediction leave, although a screen had flagged the input.
    #[serde(skip_serializing_if = "Option::is_none")]
    overridden: Option<bool>,
    /// Codes found after the review that was overridden: nobody has looked at them yet.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    unconfirmed: Vec<&'static str>,
    model: Option<ModelName<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prediction: Option<Prediction<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    reasons: Vec<Reason<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    review: Option<Review<'a>>,
    screening: Screening<'a>,
    /// The networks that gave no usable output, by name.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    lost_members: Vec<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scores: Option<Scores<'a>>,
}

impl<'a> Answer<'a> {
    /// A prediction, attached to a review when there are reasons that nobody overrode.
    pub(super) fn predicted(
        trail: &'a Trail,
        disposition: &Disposition,
        hardened: &'a Hardened,
    ) -> Self {
        let spec = &hardened.spec;
        Self {
            id: &trail.id,
            disposition: disposition.outcome().as_str(),
            overridden: (hardened.clearance == Clearance::Overridden).then_some(true),
            unconfirmed: disposition
                .unconfirmed()
                .iter()
                .map(|c| c.as_str())
                .collect(),
            model: model(trail),
            prediction: Some(Prediction {
                outcome: &spec.outcome.name,
                probability: hardened.probability().map(|p| *p.expose()),
                precision: hardened.precision(),
                limited: hardened.probability().is_none().then_some(BANDS_ONLY),
                band: hardened.band(),
                range: match hardened.stability {
                    Stability::Range(low, high) => Some([spec.band(low), spec.band(high)]),
                    Stability::Holds | Stability::NotRun | Stability::NotConfigured => None,
                },
            }),
            reasons: reasons(trail.language, spec, &hardened.reasons),
            review: hardened.opened.as_deref().map(Review::new),
            screening: Screening::new(
                spec,
                &hardened.reasons,
                hardened.handling,
                hardened.oddness.is_some(),
                Scored::Predicted(hardened.stability),
                &hardened.lost,
            ),
            lost_members: names(spec, &hardened.lost),
            scores: Scores::new(trail, hardened.oddness.as_deref(), hardened.spread.as_ref()),
        }
    }

    /// A review without a prediction.
    pub(super) fn withheld(
        trail: &'a Trail,
        disposition: &Disposition,
        withheld: &'a Withheld,
    ) -> Self {
        let spec = &withheld.spec;
        Self {
            id: &trail.id,
            disposition: disposition.outcome().as_str(),
            overridden: None,
            unconfirmed: Vec::new(),
            model: model(trail),
            prediction: None,
            reasons: reasons(trail.language, spec, &withheld.reasons),
            review: withheld.opened.as_deref().map(Review::new),
            screening: Screening::new(
                spec,
                &withheld.reasons,
                *withheld.handling,
                withheld.oddness.is_some(),
                Scored::Withheld {
                    agreed: withheld.agreed,
                    pushes: trail.model.as_deref().is_some_and(looks_at_stability),
                },
                &withheld.lost,
            ),
            lost_members: names(spec, &withheld.lost),
            scores: Scores::new(trail, withheld.oddness.as_deref(), None),
        }
    }
}

#[derive(Serialize)]
struct Prediction<'a> {
    outcome: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    probability: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    precision: Option<f64>,
    /// Said where there is a band and no probability.
    #[serde(skip_serializing_if = "Option::is_none")]
    limited: Option<&'static str>,
    band: &'a str,
    /// From which band to which it may be, by the uncertainty of the measurements.
    #[serde(skip_serializing_if = "Option::is_none")]
    range: Option<[&'a str; 2]>,
}

/// How the review may be overridden, by who has the right to.
#[derive(Serialize)]
struct Review<'a> {
    token: &'a str,
    expires: &'a str,
    reason_codes: [&'static str; OverrideReason::ALL.len()],
}

impl<'a> Review<'a> {
    fn new(opened: &'a Opened) -> Self {
        Self {
            token: &opened.token,
            expires: &opened.expires,
            reason_codes: OverrideReason::ALL.map(OverrideReason::as_str),
        }
    }
}

#[derive(Serialize)]
struct Reason<'a> {
    code: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    feature: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pointer: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    features: Vec<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    findings: Vec<Found<'a>>,
    message: String,
}

/// A value that stands out, as it was given, and what would be typical given the others.
#[derive(Serialize)]
struct Found<'a> {
    feature: &'a str,
    value: f64,
    typical: f64,
    unit: &'a str,
}

/// What an attacker would learn from; only for those who may read scores.
#[derive(Serialize)]
struct Scores<'a> {
    distribution: Conformal<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    agreement: Option<Spread>,
}

/// The conformal p-value of the decision, and each channel's.
struct Conformal<'a>(&'a Oddness);

impl Serialize for Conformal<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(oddness) = self;
        let mut map = serializer.serialize_map(Some(1 + Channel::ALL.len()))?;
        map.serialize_entry("p", &oddness.p)?;
        for (channel, p) in Channel::ALL.iter().zip(oddness.channels) {
            map.serialize_entry(channel.as_str(), &p)?;
        }
        map.end()
    }
}

/// How far the networks' logits differ, and how rare that is among calibration patients.
#[derive(Serialize)]
struct Spread {
    spread: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    p: Option<f64>,
}

impl<'a> Scores<'a> {
    fn new(
        trail: &Trail,
        oddness: Option<&'a Phi<Oddness>>,
        spread: Option<&Phi<f64>>,
    ) -> Option<Self> {
        let oddness = oddness.filter(|_| trail.scores.is_some())?.expose();
        let fitted = trail.model.as_deref().and_then(LoadedModel::screen);
        let fitted = fitted.and_then(Screen::agreement);
        let agreement = spread.map(|spread| Spread {
            spread: *spread.expose(),
            p: fitted.map(|agreement| agreement.p(*spread.expose())),
        });
        Some(Self {
            distribution: Conformal(oddness),
            agreement,
        })
    }
}

/// What became of each screen, and what was done to the input.
#[derive(Serialize)]
struct Screening<'a> {
    ranges: &'static str,
    consistency: &'static str,
    missingness: &'static str,
    distribution: &'static str,
    robustness: &'static str,
    agreement: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    rounded: Vec<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    converted: Vec<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    imputed: Vec<&'a str>,
}

/// How far the networks were asked.
#[derive(Clone, Copy)]
enum Scored {
    /// There is a prediction.
    Predicted(Stability),
    /// There is none.
    Withheld {
        /// The networks agree.
        agreed: bool,
        /// The model looks at stability, if it comes to it.
        pushes: bool,
    },
}

fn looks_at_stability(model: &LoadedModel) -> bool {
    let off = model.spec().stability.policy == StabilityPolicy::Off;
    !off && model.screen().is_some_and(|s| s.stability().is_some())
}

/// Said in place of a probability, whatever the limit is.
const BANDS_ONLY: &str = "bands-only";
const PASS: &str = "pass";
const REVIEW: &str = "review";
const NOT_RUN: &str = "not_run";
const NOT_CONFIGURED: &str = "not_configured";
const DEGRADED: &str = "degraded";
const UNSTABLE: &str = "unstable";

impl<'a> Screening<'a> {
    fn new(
        spec: &'a ModelSpec,
        reasons: &[ReviewReason],
        handling: Handling,
        compared: bool,
        scored: Scored,
        lost: &[Lost],
    ) -> Self {
        let screen = |codes: &[Code]| {
            let found = reasons.iter().any(|r| codes.contains(&r.code));
            if found { REVIEW } else { PASS }
        };
        let names = |set: FeatureSet| {
            set.iter()
                .filter_map(|i| spec.features.get(i))
                .map(|f| f.name.as_str())
                .collect()
        };
        // A member that is lost on a copy has been held against the others.
        let disagrees = |r: &ReviewReason| {
            r.code == Code::Disagreement
                || (r.code == Code::MemberFailed && r.words != Words::Unlooked)
        };
        let agreement = if reasons.iter().any(disagrees) {
            REVIEW
        } else if spec.agreement.is_none() {
            NOT_CONFIGURED
        } else if matches!(scored, Scored::Withheld { agreed: false, .. }) {
            NOT_RUN
        } else if lost.iter().any(|lost| !lost.on_copy) {
            // Of those that are left; the others may have said otherwise.
            DEGRADED
        } else {
            PASS
        };
        let robustness = match scored {
            Scored::Withheld { pushes: false, .. }
            | Scored::Predicted(Stability::NotConfigured) => NOT_CONFIGURED,
            Scored::Withheld { .. } if screen(&[Code::Unstable]) == REVIEW => REVIEW,
            Scored::Withheld { .. } | Scored::Predicted(Stability::NotRun) => NOT_RUN,
            Scored::Predicted(Stability::Holds) => PASS,
            Scored::Predicted(Stability::Range(..)) => UNSTABLE,
        };
        Self {
            ranges: screen(&[Code::OutsideExpected]),
            consistency: screen(&[Code::ImplausibleCombination]),
            missingness: screen(&[Code::TooMuchMissing]),
            // Said, not left out: a clinician must not take a screen for granted that was not
            // there.
            distribution: if compared {
                screen(&[Code::Atypical])
            } else {
                NOT_CONFIGURED
            },
            robustness,
            agreement,
            rounded: names(handling.rounded),
            converted: names(handling.converted),
            imputed: names(handling.imputed),
        }
    }
}

/// Names of the networks that were lost.
pub(super) fn names<'a>(spec: &'a ModelSpec, lost: &[Lost]) -> Vec<&'a str> {
    let members = lost.iter().filter_map(|l| spec.members.get(l.member));
    members.map(|member| member.name.as_str()).collect()
}

fn reasons<'a>(
    language: Language,
    spec: &'a ModelSpec,
    reasons: &'a [ReviewReason],
) -> Vec<Reason<'a>> {
    let mut ranked: Vec<&ReviewReason> = reasons.iter().collect();
    // The codes' own order: what names a value to look at comes first, what only the networks show
    // last.
    ranked.sort_by_key(|r| r.code);
    ranked
        .into_iter()
        .map(|r| {
            let features: Vec<&str> = spec.names(&r.features).collect();
            let feature = features.first().copied();
            Reason {
                code: r.code.as_str(),
                feature,
                pointer: feature.map(|name| format!("/observations/{name}")),
                features: if features.len() > 1 {
                    features
                } else {
                    Vec::new()
                },
                findings: r.findings.iter().filter_map(|f| found(spec, f)).collect(),
                message: language.reason(spec, r),
            }
        })
        .collect()
}

fn found<'a>(spec: &'a ModelSpec, finding: &'a Finding) -> Option<Found<'a>> {
    Some(Found {
        feature: spec.features.get(finding.feature)?.name.as_str(),
        value: *finding.value.expose(),
        typical: *finding.typical.expose(),
        unit: finding.unit.expose(),
    })
}
