//! What a caller learns about a model is paid for: [`Admission`] and a screened row → [`Charged`].
//!
//! Every answer teaches the caller something. The rate limit protects our processors; this
//! protects the model, so the two never share a bucket. What is counted are *distinct rows*, by
//! keyed fingerprint, per caller, model name and UTC day: versions, paths, connections, addresses
//! and encounters make no difference, and the same row again is free. Every row that could be
//! read is charged, whatever becomes of it: that a screen rejects or flags a row also tells where
//! its limits are, and must not be free to probe. What could not be read (a body that is no row
//! of the model) shows nothing that the model's schema does not, and costs only of the rate.
//!
//! Two patterns are looked for ([`Ledger`]): many rows near each other (line searches, small
//! steps), and many flagged ones (made-up patients). What follows is graduated ([`Step`]), fades
//! by itself, and ends at bands for those who stand at a bedside.
//!
//! [`Charged`] is what [`crate::hardening::release`] asks for, so no prediction leaves uncharged.

use std::{collections::BTreeMap, sync::Arc};

use arc_swap::ArcSwap;

use crate::{
    admission::{Account, Admission, Rows},
    audit::Identifiers,
    bundle::LoadedModel,
    clock,
    disposition::{Code, Refusal, Rejection, ReviewReason, Words},
    fleet::Fleet,
    row::Row,
    screening::{InDistribution, Screen},
    telemetry,
    trail::Trail,
};

mod embedding;
mod ledger;
mod response;
mod terms;
mod verdict;

#[cfg(test)]
mod ward;

pub use embedding::{Embedder, Embedding};
pub use ledger::{
    Answer, Argument, Debt, EMBEDDINGS, Journal, Ledger, Nearby, Places, Query, Said, Shared, Told,
};
pub use response::{DECAY_SECONDS, Step};
pub use terms::{Clinical, Terms};
pub use verdict::{Detail, Event, Events, Limit, Verdict, Why};

/// Models whose directions are remembered; more than are served at once.
const EMBEDDERS: usize = 64;
const DAY: u64 = 86_400;

/// A row that was paid for, and how much of its prediction may leave; made only by
/// [`Extraction::charge`].
#[derive(Debug)]
pub struct Charged {
    detail: Detail,
}

impl Charged {
    /// How much may leave.
    pub fn detail(&self) -> Detail {
        self.detail
    }

    /// Why a person has to look, when the caller is answered no other way.
    pub fn reason(&self) -> Option<ReviewReason> {
        (self.detail == Detail::Withheld).then(|| {
            ReviewReason::new(
                Code::CallerUnderReview,
                Vec::new(),
                Words::CallerUnderReview,
            )
        })
    }
}

#[cfg(test)]
impl Charged {
    /// As if it had been paid.
    pub(crate) fn example(detail: Detail) -> Self {
        Self { detail }
    }
}

/// What is kept of a row that the screens have not seen. Only with what they said, whatever it is,
/// does it become a [`Query`] that can be charged for: it tells where they are.
#[derive(Clone, Copy, Debug)]
pub struct Unscreened {
    fingerprint: u64,
    version: u32,
    embedding: Option<Embedding>,
}

impl Unscreened {
    /// With what the screens said.
    #[must_use]
    pub fn screened(self, screened: &Result<InDistribution, Rejection>) -> Query {
        let passed = screened.as_ref().ok();
        let query = Query {
            fingerprint: self.fingerprint,
            version: self.version,
            embedding: self.embedding,
            flagged: passed.is_none_or(InDistribution::is_flagged),
            answered: passed.is_some_and(InDistribution::leads_on),
        };
        if passed.is_some_and(InDistribution::is_overridden) {
            query.overridden()
        } else {
            query
        }
    }
}

/// Counts rows against budgets, and looks for patterns in them.
#[derive(Debug, Default)]
pub struct Extraction {
    /// What other servers share with this one.
    fleet: Option<Arc<Fleet>>,
    /// By the model's digest: the day, and the day's directions.
    embedders: ArcSwap<BTreeMap<String, (u64, Arc<Embedder>)>>,
}

impl Extraction {
    /// Counts for all servers that share a store, or for this one.
    pub fn new(fleet: Option<Arc<Fleet>>) -> Self {
        Self {
            fleet,
            embedders: ArcSwap::default(),
        }
    }

    /// What other servers share with this one.
    pub fn fleet(&self) -> Option<&Arc<Fleet>> {
        self.fleet.as_ref()
    }

    /// What is kept of a row: its fingerprint, which is given as the audit log writes it, and its
    /// embedding where the model has a reference. It can be charged for once the screens have
    /// seen it.
    ///
    /// # Errors
    /// `INTERNAL` without a fingerprint: rows that look alike would be free.
    pub fn query(
        &self,
        identifiers: &Identifiers,
        fingerprint: Option<&str>,
        model: &LoadedModel,
        row: &Row,
    ) -> Result<Unscreened, Code> {
        let fingerprint = fingerprint.and_then(short).ok_or(Code::Internal)?;
        let embedding = model.screen().map(|screen| {
            let embedder = self.embedder(identifiers, model, screen);
            // A value filled in by the bundle's policy says nothing about this patient.
            let measured = row.values().iter().enumerate();
            let measured = measured.map(|(feature, value)| {
                if row.imputed.contains(feature) {
                    f64::NAN
                } else {
                    *value
                }
            });
            embedder.embed(screen, measured)
        });
        Ok(Unscreened {
            fingerprint,
            version: model.spec().version,
            embedding,
        })
    }

    /// Counts a row that was screened, and says how much may be answered.
    ///
    /// # Errors
    /// `BUDGET_EXHAUSTED`, `SLOWED_DOWN` or `CALLER_QUARANTINED`.
    pub async fn charge(
        &self,
        admission: &Admission,
        query: &Query,
        trail: &mut Trail,
    ) -> Result<Charged, Refusal> {
        let account = admission.account();
        let spec = admission.model().spec();
        let terms = Terms::new(account.limits(), admission.clinical(), &spec.queries);
        let now = u64::try_from(clock::since_epoch().as_millis()).unwrap_or(u64::MAX);
        let mut verdict = self.judge(account, &spec.name, query, &terms, now).await;
        if let Some(fleet) = &self.fleet {
            verdict.events.extend(fleet.news());
        }
        note(
            account,
            admission.model(),
            &terms,
            &verdict,
            now / 1000,
            trail,
        );
        match verdict.outcome {
            Ok(detail) => Ok(Charged { detail }),
            Err((why, 0)) => Err(why.code().into()),
            Err((why, seconds)) => Err(Refusal {
                retry_after: Some(u32::try_from(seconds).unwrap_or(u32::MAX)),
                ..why.code().into()
            }),
        }
    }

    async fn judge(
        &self,
        account: &Account,
        model: &str,
        query: &Query,
        terms: &Terms,
        now: u64,
    ) -> Verdict {
        let Some(fleet) = &self.fleet else {
            return account.with_ledger(model, |own| own.enter(query, terms, now));
        };
        let day = now / 1000 / DAY;
        let names = || fleet.names(account.name(), model, day);
        let names = account.with_ledger(model, |own| own.names(day, names));
        // What the store has to have already, before it is asked.
        let known = account.with_ledger(model, |own| own.used_on(day));
        for attempt in 1..=3 {
            let told = account.with_ledger(model, |own| own.tell(query, terms, attempt, now));
            match fleet.enter(&names, query, terms, &told, now).await {
                Some(Said::Behind(places)) => {
                    account.with_ledger(model, |own| own.catch_up(&places));
                }
                Some(Said::Verdict(shared)) => {
                    let verdict = &shared.verdict;
                    let least = known.saturating_add(u32::from(verdict.charged));
                    if terms.rows.is_some() && verdict.used < least {
                        fleet.forgot();
                        break;
                    }
                    account.with_ledger(model, |own| own.mirror(query, &shared, terms, now));
                    return shared.verdict;
                }
                None => break,
            }
        }
        fleet.owe();
        let share = (fleet.replicas(), fleet.heard(&names));
        account.with_ledger(model, |own| own.enter_apart(query, terms, share, now))
    }

    /// The model's directions for today.
    fn embedder(
        &self,
        identifiers: &Identifiers,
        model: &LoadedModel,
        screen: &Screen,
    ) -> Arc<Embedder> {
        let day = clock::since_epoch().as_secs() / DAY;
        let all = self.embedders.load();
        if let Some((of, embedder)) = all.get(model.digest())
            && *of == day
        {
            return Arc::clone(embedder);
        }
        let spec = model.spec();
        let features = spec.features.iter().take(screen.features());
        let key = identifiers.day_key(day, &format!("query embedding {}", spec.name));
        let names: Vec<&str> = features.map(|f| f.name.as_str()).collect();
        let embedder = Arc::new(Embedder::new(&key, screen, names.into_iter()));
        let mut table = BTreeMap::clone(&all);
        table.retain(|_, (of, _)| *of == day);
        if table.len() < EMBEDDERS {
            table.insert(model.digest().to_owned(), (day, Arc::clone(&embedder)));
        }
        self.embedders.store(Arc::new(table));
        embedder
    }
}

/// Tells answer, record, metrics and log what became of a row.
fn note(
    account: &Account,
    model: &LoadedModel,
    terms: &Terms,
    verdict: &Verdict,
    seconds: u64,
    trail: &mut Trail,
) {
    let until_more = match verdict.outcome {
        Err((Why::Exhausted, wait)) => wait,
        _ => DAY - seconds % DAY,
    };
    let of_budget = terms.rows.zip(verdict.quota);
    trail.shown.rows = of_budget.map(|(quota, now)| Rows {
        quota,
        remaining: now.saturating_sub(verdict.used),
        reset: u32::try_from(until_more).unwrap_or(u32::MAX),
    });
    trail.events = verdict.events;
    trail.step = verdict.step;
    trail.limit = verdict.limit(terms);
    if verdict.events.is_empty() {
        return;
    }
    let caller = crate::error_chain::printable(account.name());
    let (used, step, enforced) = (verdict.used, verdict.step.as_str(), terms.enforced);
    let model_name = model.spec().name.as_str();
    for event in verdict.events.iter() {
        telemetry::caller_event(account.label(), model, event);
        let event = event.as_str();
        tracing::warn!(
            event,
            caller,
            model = model_name,
            used,
            step,
            enforced,
            "caller's queries"
        );
    }
}

/// The first 56 bits of a fingerprint.
fn short(fingerprint: &str) -> Option<u64> {
    u64::from_str_radix(fingerprint.get(..14)?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::short;

    #[test]
    fn what_is_no_fingerprint_is_not_taken_for_one() {
        assert_eq!(short("000000000000ff77"), Some(255));
        for wrong in ["", "ff", "no fingerprint at all"] {
            assert_eq!(short(wrong), None, "{wrong}");
        }
    }
}
