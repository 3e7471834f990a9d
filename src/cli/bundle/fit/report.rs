//! What `bundle fit` says it did.

use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};
use serde_json::{Value, json};
use vitalgate::{
    error_chain::printable,
    intake::Report,
    screening::{
        fit::{Admitted, Earlier},
        reference::{RawBudget, RawReference},
    },
};

use super::{FitArguments, validation};

/// A fit that was written.
pub(super) struct Fit<'a> {
    pub(super) arguments: &'a FitArguments,
    pub(super) reference: &'a RawReference,
    pub(super) text: &'a str,
    pub(super) admitted: &'a Admitted,
    /// Patients who calibrated it.
    pub(super) aside: usize,
    pub(super) validated: &'a Report,
    pub(super) seconds: f64,
}

impl Fit<'_> {
    fn sha256(&self) -> String {
        hex::encode(digest(&SHA256, self.text.as_bytes()))
    }

    /// As a JSON object.
    pub(super) fn json(&self) -> String {
        let reference = self.reference;
        let strata = reference.calibration.strata.iter();
        let strata: Vec<Value> = strata
            .map(|s| json!({"missing": s.missing, "rows": s.scores.len(), "masked": s.masked}))
            .collect();
        let agreement = reference.agreement.as_ref();
        json!({
            "reference": self.arguments.out.display().to_string(),
            "sha256": self.sha256(),
            "model": reference.name,
            "version": reference.version,
            "fit": reference.fit,
            "left_out": {
                "incomplete": self.admitted.stopped(Earlier::Incomplete),
                "missing": self.admitted.stopped(Earlier::Missing),
                "ranges": self.admitted.stopped(Earlier::Range),
                "consistency": self.admitted.stopped(Earlier::Rule),
            },
            "calibration_patients": self.aside,
            "validation": validation::summary(self.validated),
            "alpha": reference.calibration.alpha,
            "strata": strata,
            "budget": reference.budget,
            "agreement": agreement.map(|a| json!({
                "alpha": a.alpha,
                "bound": a.bound,
                "rows": a.calibration.len(),
            })),
            "seconds": self.seconds,
        })
        .to_string()
    }
}

impl fmt::Display for Fit<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reference = self.reference;
        let record = &reference.fit;
        let stopped = |by| self.admitted.stopped(by);
        writeln!(
            f,
            "fitted     {} version {}",
            reference.name, reference.version
        )?;
        writeln!(
            f,
            "rows       {} of {} patients",
            record.fit_rows, record.fit_groups
        )?;
        writeln!(
            f,
            "left out   {} with a required value missing, {} with too much missing, {} out of \
             range, {} that break a rule",
            stopped(Earlier::Incomplete),
            stopped(Earlier::Missing),
            stopped(Earlier::Range),
            stopped(Earlier::Rule)
        )?;
        write!(f, "calibrated on {} other patients", self.aside)?;
        if record.calibration_rows != self.aside {
            write!(f, " ({} rows)", record.calibration_rows)?;
        }
        writeln!(f, ", alpha {}", reference.calibration.alpha)?;
        let found = if self.validated.passes() {
            "no sign of tampering".to_owned()
        } else {
            let found = self.validated.found_in_words();
            format!("ALLOWED all the same: {}", printable(&found))
        };
        writeln!(
            f,
            "looked at  {found}, report sha256:{}",
            self.validated.digest()
        )?;
        for stratum in &reference.calibration.strata {
            let hidden = if stratum.masked {
                ", values hidden"
            } else {
                ""
            };
            let rows = stratum.scores.len();
            writeln!(f, "missing    {}: {rows} rows{hidden}", stratum.missing)?;
        }
        if let Some(budget) = &reference.budget {
            writeln!(f, "budget     {}", Shares(budget))?;
        }
        match &reference.agreement {
            Some(agreement) => writeln!(
                f,
                "agreement  logits differ by at most {:.3}, alpha {}, by {} patients",
                agreement.bound,
                agreement.alpha,
                agreement.calibration.len()
            )?,
            None => writeln!(
                f,
                "agreement  not measured: one network, none beside model.json, or too few \
                 patients; the bound of model.json counts"
            )?,
        }
        writeln!(
            f,
            "network    {}, seed {}, {:.0} s",
            record.quality, record.seed, self.seconds
        )?;
        writeln!(f, "sha256     {}", self.sha256())?;
        let out = self.arguments.out.display();
        write!(f, "reference  {out} ({} bytes)", self.text.len())
    }
}

/// Each screen's share of the patients.
struct Shares<'b>(&'b RawBudget);

impl fmt::Display for Shares<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let budget = self.0;
        let percent = |share: f64| 100.0 * share;
        write!(
            f,
            "{:.1} % = ranges {:.2} + rules {:.2} + missing {:.2} (measured), distribution {:.2} + \
             agreement {:.2} (given), {} {:.2}",
            percent(budget.total),
            percent(budget.ranges),
            percent(budget.consistency),
            percent(budget.missing),
            percent(budget.distribution),
            percent(budget.agreement),
            if budget.reserve < 0.0 {
                "TOO MUCH by"
            } else {
                "reserve"
            },
            percent(budget.reserve.abs())
        )
    }
}
