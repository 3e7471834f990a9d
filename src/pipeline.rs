//! The request path: one function, whose stages are types.
//!
//! Each stage takes what the stage before it made, and nothing else can make that. A stage
//! cannot be skipped or swapped, because it would not compile.

use std::sync::Arc;

use axum::{body::Body, http::HeaderMap};

use crate::{
    admission::{Admitter, Paced},
    answer::Disposition,
    audit::Identifiers,
    authn::{self, Authenticator, Presented, Principal},
    authz::{Action, Authorizer, Plane, Role},
    bundle::{LoadedModel, Models},
    clinical, clock, consensus,
    containment::Containment,
    disposition::{Code, Outcome, Refusal, Rejection, ReviewReason},
    drift::Ended,
    extraction::Extraction,
    hardening::{self, Hardened},
    inference::ScoreError,
    receive::{self, BodyLimits, Framing},
    review::{self, Clearance, Opened, Reviews, Withheld},
    schema::{self, Observed},
    screening::{self, InDistribution},
    stability,
    trail::{Stage, Trail},
    urgency::{Priority, Urgency},
};

mod proofs;

/// Everything the request path needs.
#[derive(Debug)]
pub struct Pipeline {
    /// Knows the principals.
    pub authenticator: Arc<Authenticator>,
    /// Knows what they may do.
    pub authorizer: Arc<Authorizer>,
    /// What is served.
    pub models: Models,
    /// Who and what is stopped.
    pub containment: Arc<Containment>,
    /// Bounds on requests in flight.
    pub admitter: Admitter,
    /// What callers learn, and what they have paid for it.
    pub extraction: Extraction,
    /// Bounds on a body.
    pub body: BodyLimits,
    /// Keys of what is kept across requests.
    pub identifiers: Identifiers,
    /// Opens reviews, and says which overrides hold.
    pub reviews: Reviews,
}

/// A request for a prediction, as it arrived.
#[derive(Debug)]
pub struct Call {
    /// What the connection shows.
    pub presented: Presented,
    /// Model's name, from the path.
    pub model: String,
    /// Model's version, from the path, if one was named; kept as text until it is parsed.
    pub version: Option<String>,
    /// The request's headers.
    pub headers: HeaderMap,
    /// The request's body, unread.
    pub body: Body,
    /// Told when the body was read to its end.
    pub framing: Framing,
}

/// How a request's path may end short of a prediction.
#[derive(Debug)]
pub enum Stop {
    /// The input cannot be a patient.
    Rejected(Rejection),
    /// A person has to look.
    Withheld(Withheld),
    /// The caller or the server's state stands in the way.
    Refused(Refusal),
}

impl From<Rejection> for Stop {
    fn from(rejection: Rejection) -> Self {
        Self::Rejected(rejection)
    }
}

impl From<Withheld> for Stop {
    fn from(withheld: Withheld) -> Self {
        Self::Withheld(withheld)
    }
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<Code> for Stop {
    fn from(code: Code) -> Self {
        Self::Refused(code.into())
    }
}

impl From<ScoreError> for Stop {
    fn from(error: ScoreError) -> Self {
        match error {
            ScoreError::QueueFull => Code::Overloaded.into(),
            ScoreError::Stopped => Code::ModelUnavailable.into(),
            ScoreError::Width { .. } => Code::Internal.into(),
        }
    }
}

impl From<stability::Ended> for Stop {
    fn from(ended: stability::Ended) -> Self {
        match ended {
            stability::Ended::Withheld(withheld) => withheld.into(),
            stability::Ended::Unscored(error) => error.into(),
        }
    }
}

impl From<Stop> for Disposition {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::Rejected(rejection) => Self::Rejected(rejection),
            Stop::Withheld(withheld) => Self::Review(withheld),
            Stop::Refused(refusal) => Self::Refused(refusal),
        }
    }
}

impl Pipeline {
    /// Decides about one request for a prediction.
    pub async fn predict(&self, trail: &mut Trail, call: Call) -> Disposition {
        trail.action = Some(Action::Predict);
        let disposition = match self.path(trail, call).await {
            Ok(mut hardened) => {
                if let Some(confirmed) = &hardened.confirmed {
                    trail.repeated = confirmed.is_repeat();
                }
                if hardened.clearance == Clearance::Attached {
                    hardened.opened = self.open_review(trail, &hardened.reasons);
                }
                Disposition::Predicted(hardened)
            }
            Err(Stop::Withheld(mut withheld)) => {
                if withheld.predictable {
                    withheld.opened = self.open_review(trail, &withheld.reasons);
                }
                Disposition::Review(withheld)
            }
            Err(stop) => stop.into(),
        };
        count_for_drift(trail, &disposition);
        disposition
    }

    /// Opens a review of the input that the trail is about.
    fn open_review(&self, trail: &mut Trail, reasons: &[ReviewReason]) -> Option<Box<Opened>> {
        let model = trail.model.as_deref()?;
        let shown: Vec<Code> = reasons.iter().map(|reason| reason.code).collect();
        let opened = self.reviews.open(model, trail.tag?, &shown)?;
        trail.review = Some(opened.id.clone());
        Some(Box::new(opened))
    }

    async fn path(&self, trail: &mut Trail, call: Call) -> Result<Hardened, Stop> {
        use Stage as S;
        let presented = &call.presented;
        let principal = self.identify(trail, presented, &call.headers).await?;
        let paced = self.pace(trail, presented, &principal)?;
        let urgency = Urgency::asked_for(&call.headers, trail.started())?;
        trail.priority = urgency.priority;
        let permit = |action| {
            let plane = Plane::Data;
            self.authorizer
                .authorize(plane, &principal, action, &call.model)
        };
        let grant = trail.mark(S::Authorize, permit(Action::Predict))?;
        if urgency.priority == Priority::Stat && permit(Action::PredictStat).is_err() {
            return Err(Code::PriorityNotPermitted.into());
        }
        trail.scores = permit(Action::ReadScores).ok();
        let precise = permit(Action::ReadPrecise).ok();
        let model = self.find(&call.model, call.version.as_deref())?;
        trail.model = Some(Arc::clone(&model));
        let admitted = self.admitter.admit(&grant, paced, model, urgency.priority);
        let admission = trail.mark(S::Admit, admitted)?;
        let body = receive::read(
            &admission,
            call.headers,
            call.body,
            &self.body,
            &call.framing,
        );
        let body = trail.mark(S::Receive, body.await)?;
        let turn = self.admitter.turn(&admission, urgency, call.framing.gone());
        let _turn = trail.mark(S::Wait, turn.await)?;
        let model = admission.model();
        let observed = schema::parse(model.spec(), body.expose());
        drop(body);
        self.name_input(trail, &observed);
        let mut observed = trail.mark(S::Parse, observed)?;
        observed.prioritize(urgency.priority);
        let observed = self.confirm(trail, &principal, model, observed)?;
        let unscreened = self.extraction.query(
            &self.identifiers,
            trail.input.as_deref(),
            model,
            observed.row(),
        )?;
        let screened = screen(trail, model, observed);
        let query = unscreened.screened(&screened);
        let charged = self.extraction.charge(&admission, &query, trail).await;
        let charged = trail.mark(S::Charge, charged)?;
        let screened = screened?;
        if let Some(reason) = charged.reason() {
            return Err(review::withhold_for(screened, reason).into());
        }
        let cleared = trail.mark(S::Clear, review::clear(screened))?;
        if urgency.has_passed(clock::monotonic()) {
            return Err(Code::DeadlinePassed.into());
        }
        let scores = trail.mark(S::Infer, consensus::score(model.engine(), cleared).await)?;
        let consensus = trail.mark(S::Agree, consensus::agree(model.screen(), scores))?;
        if let (Some(drift), Some(sighting)) = (model.drift(), &mut trail.sighting) {
            drift.add_probability(sighting, *consensus.mean().expose());
        }
        let stable = stability::check_stability(model.engine(), model.screen(), consensus);
        let stable = trail.mark(S::Stability, stable.await)?;
        // A body may be long in coming. Once a quarantine is confirmed, no prediction is decided.
        let holder = || self.authenticator.holder(presented);
        let uncontained = self.containment.confirm(&principal, holder, model)?;
        let hardened = hardening::release(stable, &charged, uncontained, precise.as_ref());
        Ok(trail.mark(S::Harden, hardened))
    }

    /// Counts a request against the rate of who pays for it.
    pub fn pace(
        &self,
        trail: &mut Trail,
        presented: &Presented,
        principal: &Arc<Principal>,
    ) -> Result<Paced, Refusal> {
        let payer = self.authenticator.payer(presented, principal);
        trail.payer = (payer.name() != principal.name()).then(|| Arc::clone(&payer));
        self.admitter.pace(&payer, &mut trail.shown)
    }

    /// Where the caller wants to override a review: whether it may, and whether this is the input
    /// that was reviewed.
    fn confirm(
        &self,
        trail: &mut Trail,
        principal: &Arc<Principal>,
        model: &LoadedModel,
        mut observed: Observed,
    ) -> Result<Observed, Stop> {
        let Some(claim) = observed.take_claim() else {
            return Ok(observed);
        };
        trail.action = Some(Action::OverrideReview);
        trail.reason = Some(claim.reason.as_str().to_owned());
        let name = &model.spec().name;
        let grant = self
            .authorizer
            .authorize(Plane::Data, principal, Action::OverrideReview, name);
        let confirmed = grant.and_then(|grant| {
            let confirmed = self.reviews.confirm(&grant, model, &observed, &claim);
            confirmed.map_err(Refusal::from)
        });
        let confirmed = trail.mark(Stage::Confirm, confirmed)?;
        trail.review = Some(confirmed.id().to_owned());
        observed.confirm(confirmed);
        Ok(observed)
    }

    /// Notes which input and which patient it is, without saying so to anybody without the keys.
    fn name_input(&self, trail: &mut Trail, observed: &Result<Observed, Rejection>) {
        let subject = match observed {
            Ok(observed) => {
                trail.input = Some(self.identifiers.fingerprint(observed.row()));
                trail.tag = self.reviews.tag(observed.row());
                observed.row().subject.as_ref()
            }
            Err(rejection) => rejection.subject.as_ref(),
        };
        trail.patient = subject.map(|subject| self.identifiers.pseudonym(subject));
    }

    /// Authenticates the caller, notes it, and for whom it acts, on the trail, and turns away who
    /// is quarantined.
    pub async fn identify(
        &self,
        trail: &mut Trail,
        presented: &Presented,
        headers: &HeaderMap,
    ) -> Result<Arc<Principal>, Code> {
        let principal = self.authenticator.authenticate(presented, headers).await;
        let principal = trail.mark(Stage::Authenticate, principal)?;
        trail.principal = Some(Arc::clone(&principal));
        let holder = || self.authenticator.holder(presented);
        self.containment.check_caller(&principal, holder)?;
        trail.on_behalf_of = authn::on_behalf_of(&principal, headers)?;
        Ok(principal)
    }

    /// Finds what a path names.
    pub fn find(&self, name: &str, version: Option<&str>) -> Result<Arc<LoadedModel>, Code> {
        if !self.models.contains(name) {
            return Err(Code::UnknownModel);
        }
        let version = match version {
            None => None,
            // Digits as we write them, so that a version has one path.
            Some(text) => {
                let number = text.parse().ok().filter(|n: &u32| n.to_string() == text);
                Some(number.ok_or(Code::UnknownVersion)?)
            }
        };
        self.models.get(name, version).ok_or(Code::UnknownVersion)
    }
}

/// The screens, up to the first that the row does not pass.
fn screen(
    trail: &mut Trail,
    model: &LoadedModel,
    observed: Observed,
) -> Result<InDistribution, Rejection> {
    use Stage as S;
    let plausible = trail.mark(S::Ranges, clinical::check_ranges(observed))?;
    let consistent = trail.mark(S::Consistency, clinical::check_consistency(plausible))?;
    let screened = screening::check_distribution(model.screen(), consistent);
    let screened = trail.mark(S::Distribution, screened);
    trail.atypical = screened.atypical();
    trail.sighting = model.drift().map(|drift| drift.sighting(screened.row()));
    Ok(screened)
}

/// Lets the model's version count what was decided about its patients. What says nothing about
/// them is not counted: a refusal, and what an evaluator sends.
fn count_for_drift(trail: &mut Trail, disposition: &Disposition) {
    // The same input once more, after a person has looked at it.
    if matches!(disposition, Disposition::Predicted(h) if h.confirmed.is_some()) {
        return;
    }
    let ended = match disposition.outcome() {
        Outcome::Predicted => Ended::Passed,
        Outcome::Review => Ended::Review,
        Outcome::Rejected => Ended::Rejected,
        Outcome::Refused | Outcome::Answered | Outcome::Announced => return,
    };
    let evaluates = |p: &Arc<Principal>| p.roles().contains(&Role::Evaluator);
    if trail.principal.as_ref().is_none_or(evaluates) {
        return;
    }
    let Some(drift) = trail.model.as_ref().and_then(|model| model.drift()) else {
        return;
    };
    // Half of the keyed hash tells encounters apart.
    let encounter = trail.patient.as_deref().and_then(|text| text.get(..16));
    let encounter = encounter.and_then(|text| u64::from_str_radix(text, 16).ok());
    drift.count(
        trail.sighting.take(),
        ended,
        encounter,
        clock::since_epoch(),
    );
}
