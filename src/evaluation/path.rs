//! A row's way through the stages that a request goes through.
//!
//! The row is written as a request body and parsed again, so that units, precision, ranges,
//! rules, missing values, the distribution, the networks and their agreement are judged by the
//! very code that serves.

use std::sync::Arc;

use crate::{
    bundle::model::ModelSpec,
    clinical::{self, Consistent},
    consensus,
    disposition::{Code, Rejection},
    inference::{Engine, MemberOutput, Scored},
    review::{self, Withheld},
    row::Row,
    schema,
    screening::{self, Judgement, Scratch, Screen},
};

/// What the stages before the distribution screen made of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Earlier {
    /// It cannot be a patient.
    Rejected(Vec<Code>),
    /// A person would look anyhow.
    Review(Vec<Code>),
    /// Nothing.
    Passed,
}

/// What the distribution screen made of a row that got there with no reason for review.
#[derive(Clone, Debug)]
pub struct Judged {
    /// Its p-values.
    pub judgement: Judgement,
    /// The feature that drove it most.
    pub top: Option<usize>,
    /// How many values were filled in.
    pub missing: usize,
}

/// Takes rows through the stages.
pub struct Bench<'a> {
    spec: &'a Arc<ModelSpec>,
    screen: Option<&'a Screen>,
    scratch: Scratch,
}

impl<'a> Bench<'a> {
    /// For a bundle's rules and, if it has one, its fitted distribution.
    pub fn new(spec: &'a Arc<ModelSpec>, screen: Option<&'a Screen>) -> Self {
        Self {
            spec,
            screen,
            scratch: Scratch::default(),
        }
    }

    /// As far as the distribution screen.
    pub fn screen(&mut self, values: &[f64]) -> (Earlier, Option<Judged>) {
        let consistent = match consistent(self.spec, values) {
            Ok(consistent) => consistent,
            Err(rejection) => return (Earlier::Rejected(codes(&rejection)), None),
        };
        let row = consistent.into_row();
        if !row.reasons.is_empty() {
            return (
                Earlier::Review(row.reasons.iter().map(|r| r.code).collect()),
                None,
            );
        }
        let judged = self.screen.map(|screen| {
            let judgement = screen.judge(measured(&row), &mut self.scratch);
            Judged {
                judgement,
                top: screen.drivers(&mut self.scratch).first().map(|d| d.feature),
                missing: row.imputed.len() as usize,
            }
        });
        (Earlier::Passed, judged)
    }

    /// The values that the distribution screen would be given, or `None` when it would not be
    /// asked: for timing.
    pub fn measured(&self, values: &[f64]) -> Option<Vec<f64>> {
        let row = consistent(self.spec, values).ok()?.into_row();
        row.reasons.is_empty().then(|| measured(&row).collect())
    }
}

/// A value that was filled in is no measurement.
fn measured(row: &Row) -> impl Iterator<Item = f64> {
    let values = row.values().iter().enumerate();
    values.map(|(index, value)| {
        if row.imputed.contains(index) {
            f64::NAN
        } else {
            *value
        }
    })
}

/// How a row's path ended.
#[derive(Clone, Debug)]
pub struct Ended {
    /// Whether it cannot be a patient.
    pub rejected: bool,
    /// Why it was rejected or a person has to look; none: a prediction was made.
    pub codes: Vec<Code>,
    /// How many values were filled in.
    pub missing: usize,
}

/// Takes a row through all stages, as a request is taken.
pub async fn decide(
    spec: &Arc<ModelSpec>,
    screen: Option<&Screen>,
    engine: &Engine<Row>,
    values: &[f64],
) -> Result<Ended, crate::inference::ScoreError> {
    let consistent = match consistent(spec, values) {
        Ok(consistent) => consistent,
        Err(rejection) => {
            return Ok(Ended {
                rejected: true,
                codes: codes(&rejection),
                missing: 0,
            });
        }
    };
    let review = |withheld: &Withheld| Ended {
        rejected: false,
        codes: withheld.reasons.iter().map(|r| r.code).collect(),
        missing: withheld.handling.imputed.len() as usize,
    };
    let screened = screening::check_distribution(screen, consistent);
    let cleared = match review::clear(screened) {
        Ok(cleared) => cleared,
        Err(withheld) => return Ok(review(&withheld)),
    };
    let scores = consensus::score(engine, cleared).await?;
    Ok(match consensus::agree(screen, scores) {
        Ok(consensus) => {
            let (row, _, _) = consensus.into_parts();
            Ended {
                rejected: false,
                codes: row.reasons.iter().map(|r| r.code).collect(),
                missing: row.imputed.len() as usize,
            }
        }
        Err(withheld) => review(&withheld),
    })
}

fn consistent(spec: &Arc<ModelSpec>, values: &[f64]) -> Result<Consistent, Rejection> {
    let observed = schema::parse(spec, body(spec, values).as_bytes())?;
    clinical::check_consistency(clinical::check_ranges(observed)?)
}

/// The request that a client would send for these values.
pub fn body(spec: &ModelSpec, values: &[f64]) -> String {
    let measured = spec
        .features
        .iter()
        .zip(values)
        .filter(|(_, v)| v.is_finite());
    let members = measured.map(|(feature, value)| format!("\"{}\": {value}", feature.name));
    format!(
        "{{\"observations\": {{{}}}}}",
        members.collect::<Vec<_>>().join(", ")
    )
}

fn codes(rejection: &Rejection) -> Vec<Code> {
    rejection.faults.iter().map(|fault| fault.code).collect()
}

/// A row for the networks alone, whatever the screens say of it.
pub struct Plain {
    inputs: Vec<f32>,
    outputs: Vec<f64>,
}

impl Plain {
    /// The networks' inputs for a row that can be parsed.
    pub fn of(spec: &Arc<ModelSpec>, values: &[f64]) -> Option<Box<Self>> {
        let row = consistent(spec, values).ok()?.into_row();
        Some(Box::new(Self {
            inputs: row.inputs().to_vec(),
            outputs: vec![f64::NAN; spec.members.len()],
        }))
    }

    /// Each member's probability, NaN where it gave none.
    pub fn outputs(&self) -> &[f64] {
        &self.outputs
    }
}

impl Scored for Plain {
    fn inputs(&self) -> &[f32] {
        &self.inputs
    }

    fn set_output(&mut self, member: usize, _: usize, output: MemberOutput) {
        if let (Some(slot), MemberOutput::Probability(p)) = (self.outputs.get_mut(member), output) {
            *slot = f64::from(p);
        }
    }
}
