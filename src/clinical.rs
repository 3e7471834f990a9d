//! Clinical plausibility: [`Observed`] → [`Plausible`] (ranges) → [`Consistent`] (rules).
//!
//! *Impossible* and *expected* are different things: outside the possible range is no patient
//! and no instrument, so the request is rejected; outside the expected range may be the sickest
//! patient in the house, so a person looks. Nothing is ever clamped: a clamped value is a
//! patient nobody measured.

use std::{collections::HashMap, fmt, sync::Arc};

use cel::{
    Context, Env, Program, Value,
    common::{types::CelDouble, value::CowVal},
    context::VariableResolver,
};

use crate::{
    bundle::model::{Feature, Interval, OnViolation, RawRule},
    disposition::{Code, InputFault, Rejection, ReviewReason, Words},
    phi::Phi,
    row::Row,
    schema::Observed,
};

/// Every value is possible; made only by [`check_ranges`].
#[derive(Debug)]
pub struct Plausible(Box<Row>);

/// No rule rejects the combination; made only by [`check_consistency`].
#[derive(Debug)]
pub struct Consistent(Box<Row>);

impl Consistent {
    pub(crate) fn into_row(self) -> Box<Row> {
        self.0
    }
}

/// Rejects impossible values, all at once; notes values outside the expected range and too
/// many missing ones for review.
pub fn check_ranges(observed: Observed) -> Result<Plausible, Rejection> {
    let mut row = observed.into_row();
    let spec = Arc::clone(row.spec());
    let mut reasons = Vec::new();
    let faults: Vec<InputFault> = impossible_values(&row).collect();
    if !faults.is_empty() {
        return Err(Rejection {
            spec,
            faults,
            subject: None,
        });
    }
    for (index, (feature, &value)) in spec.features.iter().zip(row.values()).enumerate() {
        if !feature.expected.contains(value) {
            reasons.push(ReviewReason::new(
                Code::OutsideExpected,
                vec![index],
                Words::Range,
            ));
        }
    }
    if row.imputed.len() > spec.review.max_missing {
        let words = Words::Missing {
            count: row.imputed.len(),
            allowed: spec.review.max_missing,
        };
        let missing = row.imputed.iter().collect();
        reasons.push(ReviewReason::new(Code::TooMuchMissing, missing, words));
    }
    row.reasons.append(&mut reasons);
    Ok(Plausible(row))
}

/// A fault for every measured value outside its possible range.
pub(crate) fn impossible_values(row: &Row) -> impl Iterator<Item = InputFault> {
    let measured = row.spec().features.iter().zip(row.values()).enumerate();
    measured
        .filter(|(index, (feature, value))| {
            let rounded = !value.is_nan() && !feature.possible.contains(**value);
            rounded || row.impossible.contains(*index)
        })
        .map(|(index, (feature, _))| InputFault {
            code: Code::ImpossibleValue,
            pointer: Phi::new(format!("/observations/{}", feature.name)),
            feature: Some(index),
            expected: range_text(feature, feature.possible),
        })
}

fn range_text(feature: &Feature, range: Interval) -> String {
    match feature.unit.as_str() {
        "1" => format!("{} to {}", range.min, range.max),
        unit => format!("{} to {} {unit}", range.min, range.max),
    }
}

/// Applies the bundle's CEL rules. A rule with a missing value is skipped: an imputed value is
/// no evidence that two measurements contradict each other.
pub fn check_consistency(plausible: Plausible) -> Result<Consistent, Rejection> {
    let mut row = plausible.0;
    let spec = Arc::clone(row.spec());
    let (mut faults, mut reasons) = (Vec::new(), Vec::new());
    for (index, rule) in spec.rules.iter().enumerate() {
        if rule.variables.iter().any(|&(_, i)| row.imputed.contains(i)) || rule.holds(row.values())
        {
            continue;
        }
        match rule.on_violation {
            OnViolation::Reject => faults.extend(rule.features.iter().map(|&i| {
                InputFault {
                    code: Code::ImpossibleCombination,
                    pointer: Phi::new(
                        spec.features
                            .get(i)
                            .map_or_else(String::new, |f| format!("/observations/{}", f.name)),
                    ),
                    feature: Some(i),
                    expected: rule.message.clone(),
                }
            })),
            OnViolation::Review => reasons.push(ReviewReason::new(
                Code::ImplausibleCombination,
                rule.features.clone(),
                Words::Rule(index),
            )),
        }
    }
    if !faults.is_empty() {
        return Err(Rejection {
            spec,
            faults,
            subject: None,
        });
    }
    row.reasons.append(&mut reasons);
    Ok(Consistent(row))
}

/// A consistency rule, compiled at load (CEL, cel.dev language definition).
pub struct Rule {
    program: Program,
    environment: Arc<Env>,
    /// The variables it reads, with their feature.
    variables: Vec<(String, usize)>,
    features: Vec<usize>,
    on_violation: OnViolation,
    message: String,
    messages: HashMap<String, String>,
}

impl fmt::Debug for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rule")
            .field("features", &self.features)
            .finish_non_exhaustive()
    }
}

impl Rule {
    /// Compiles a rule and proves on a trial row that it yields a boolean.
    pub fn compile(
        raw: RawRule,
        features: &[Feature],
        by_name: &HashMap<String, usize>,
    ) -> Result<Self, String> {
        let environment = Arc::new(Env::stdlib());
        let program = environment
            .compile(&raw.rule)
            .map_err(|e| format!("not CEL: {e}"))?;
        let variables = program
            .references()
            .variables()
            .into_iter()
            .map(|name| {
                by_name
                    .get(name)
                    .map(|&i| (name.to_owned(), i))
                    .ok_or_else(|| format!("no feature is called {name}"))
            })
            .collect::<Result<Vec<_>, _>>()?;
        let named = raw
            .features
            .iter()
            .map(|n| {
                by_name
                    .get(n)
                    .copied()
                    .ok_or_else(|| format!("no feature is called {n}"))
            })
            .collect::<Result<Vec<_>, _>>()?;
        if named.is_empty() || variables.is_empty() {
            return Err("must read and name at least one feature".to_owned());
        }
        let rule = Self {
            program,
            environment,
            variables,
            features: named,
            on_violation: raw.on_violation,
            message: raw.message,
            messages: raw.messages,
        };
        let trial: Vec<f64> = features.iter().map(|f| f.expected.min).collect();
        match rule.evaluate(&trial) {
            Some(_) => Ok(rule),
            None => Err("does not yield true or false on numbers".to_owned()),
        }
    }

    /// What to look at, in plain words.
    pub(crate) fn message(&self, language: &str) -> &str {
        self.messages.get(language).unwrap_or(&self.message)
    }

    /// Whether a row (NaN where not measured) breaks it. A rule with a missing value is skipped;
    /// one that cannot be evaluated does not hold: fail closed.
    pub fn is_broken_by(&self, values: &[f64]) -> bool {
        let missing = |&(_, i): &(_, usize)| values.get(i).is_none_or(|v| v.is_nan());
        !self.variables.iter().any(missing) && !self.holds(values)
    }

    /// A rule that cannot be evaluated does not hold: fail closed.
    fn holds(&self, values: &[f64]) -> bool {
        self.evaluate(values).unwrap_or(false)
    }

    fn evaluate(&self, values: &[f64]) -> Option<bool> {
        let resolver = Values {
            variables: &self.variables,
            values,
        };
        let mut context = Context::with_env(Arc::clone(&self.environment));
        context.set_variable_resolver(&resolver);
        match self.program.execute(&context) {
            Ok(Value::Bool(holds)) => Some(holds),
            _ => None,
        }
    }
}

/// Looks a variable up in the row, without copying the row into the interpreter.
struct Values<'a> {
    variables: &'a [(String, usize)],
    values: &'a [f64],
}

impl VariableResolver for Values<'_> {
    fn resolve<'b>(&'b self, variable: &str) -> Option<CowVal<'b, 'b>> {
        let (_, index) = self.variables.iter().find(|(name, _)| name == variable)?;
        self.values
            .get(*index)
            .map(|&v| CowVal::owned(CelDouble::from(v)))
    }
}

#[cfg(test)]
mod tests;
