//! What a record says: who, what, on which grounds, how long. Never a value, never the caller's
//! text, but for what the schema of the record names as a principal's name.

use std::time::Duration;

use serde::{Serialize, Serializer, ser::SerializeMap};

use crate::{
    answer::Disposition,
    authn::Principal,
    authz::Action,
    bundle::LoadedModel,
    clock,
    extraction::{Event, Limit, Step},
    screening::Channel,
    trail::{Stage, Trail},
    urgency::Priority,
};

/// One record, without its number and chain, which the writer puts before it.
#[derive(Serialize)]
struct Record<'a> {
    time: String,
    id: &'a str,
    principal: Option<&'a str>,
    /// Absent when nobody was authenticated.
    authentication: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    on_behalf_of: Option<&'a str>,
    /// Who pays, where that is another.
    #[serde(skip_serializing_if = "Option::is_none")]
    payer: Option<&'a str>,
    source: String,
    action: Option<&'static str>,
    /// How urgent the caller said it is, unless it is as any other.
    #[serde(skip_serializing_if = "Option::is_none")]
    priority: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    model: Option<&'a str>,
    version: Option<u32>,
    digest: Option<&'a str>,
    disposition: &'static str,
    /// Absent when there was no HTTP answer.
    status: Option<u16>,
    /// The precise ones, also where the answer said less.
    codes: Vec<&'static str>,
    features: Vec<&'a str>,
    /// The networks that gave no usable output.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    lost_members: Vec<&'a str>,
    /// What of the distribution screen found the input atypical; the answer does not say.
    #[serde(skip_serializing_if = "Option::is_none")]
    atypical: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    input: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    patient: Option<&'a str>,
    /// The review that this opened, or overrides: both records have the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    review: Option<&'a str>,
    /// The prediction left although a screen had flagged the input.
    #[serde(skip_serializing_if = "is_false")]
    overridden: bool,
    /// Codes found after the review that is overridden: it showed others.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    unconfirmed: Vec<&'static str>,
    /// The same override had been answered before.
    #[serde(skip_serializing_if = "is_false")]
    repeat: bool,
    /// What operators are told of the caller's queries.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    events: Vec<&'static str>,
    /// How far the response to them is.
    #[serde(skip_serializing_if = "Option::is_none")]
    response: Option<&'static str>,
    /// Why the answer tells less than the bundle releases, where it does.
    #[serde(skip_serializing_if = "Option::is_none")]
    limited: Option<&'static str>,
    stages_us: Stages<'a>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
fn is_false(flag: &bool) -> bool {
    !flag
}

struct Stages<'a>(&'a [(Stage, Duration)]);

impl Serialize for Stages<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (stage, taken) in self.0 {
            map.serialize_entry(stage.as_str(), &taken.as_micros())?;
        }
        map.end()
    }
}

/// The record of a decision, a JSON object.
pub(super) fn body(
    trail: &Trail,
    disposition: &Disposition,
    status: Option<u16>,
) -> Option<Vec<u8>> {
    let model = trail.model.as_deref();
    let record = Record {
        time: clock::rfc3339(),
        id: &trail.id,
        principal: trail.principal.as_deref().map(Principal::name),
        authentication: trail.principal.as_deref().map(Principal::authentication),
        on_behalf_of: trail.on_behalf_of.as_deref(),
        payer: trail.payer.as_deref().map(Principal::name),
        source: trail.source.to_string(),
        action: trail.action.map(Action::as_str),
        priority: (trail.priority != Priority::default()).then(|| trail.priority.as_str()),
        target: trail.target.as_deref(),
        reason: trail.reason.as_deref(),
        model: model.map(|m| m.spec().name.as_str()),
        version: model.map(|m| m.spec().version),
        digest: model.map(LoadedModel::named_digest),
        disposition: disposition.outcome().as_str(),
        status,
        codes: disposition.codes().iter().map(|c| c.as_str()).collect(),
        features: disposition.features(),
        lost_members: disposition.lost().map(|(member, _)| member).collect(),
        atypical: trail.atypical.map(Channel::as_str),
        input: trail.input.as_deref(),
        patient: trail.patient.as_deref(),
        review: trail.review.as_deref(),
        overridden: disposition.is_overridden(),
        unconfirmed: disposition
            .unconfirmed()
            .iter()
            .map(|c| c.as_str())
            .collect(),
        repeat: trail.repeated,
        events: trail.events.iter().map(Event::as_str).collect(),
        response: (trail.step > Step::None).then(|| trail.step.as_str()),
        limited: trail.limit.map(Limit::as_str),
        stages_us: Stages(trail.stages()),
    };
    let mut body = Vec::with_capacity(768);
    serde_json::to_writer(&mut body, &record).ok()?;
    Some(body)
}
