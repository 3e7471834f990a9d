//! A request that was answered, and the spans that it is.

use std::time::Duration;

use metrics::SharedString;

use super::message::{
    HAS_IS_REMOTE, IS_REMOTE, KeyValue, SAMPLED, Span, SpanKind, Status, StatusCode, Value,
};
use crate::{
    answer::Disposition,
    authz::Action,
    bundle::LoadedModel,
    clock,
    trace::Place,
    trail::{Stage, Trail},
};

/// What spans are made of: copied from a trail, since that is gone once the answer is.
pub(super) struct Traced {
    place: Place,
    /// Since the Unix epoch.
    ended: Duration,
    taken: Duration,
    stages: Box<[(Stage, Duration)]>,
    action: &'static str,
    request: Box<str>,
    disposition: &'static str,
    status: u16,
    codes: Box<[&'static str]>,
    model: Option<[SharedString; 2]>,
    caller: Option<SharedString>,
}

/// From the last stage to the answer: mostly the wait for the audit log.
const RECORD: &str = "record";

impl Traced {
    /// What is to be sent about a request; none when its trace is not sampled. Where the caller
    /// sent no `traceparent`, the request is the root of a trace of its own, and `sample` is the
    /// share of those that are.
    pub(super) fn of(trail: &Trail, disposition: &Disposition, sample: f64) -> Option<Self> {
        let place = match &trail.trace {
            Some(trace) => trace.sampled_place(),
            None => Place::root(&trail.id, sample),
        }?;
        let labels = trail.model.as_deref().map(LoadedModel::labels);
        let codes = disposition.codes();
        Some(Self {
            place,
            ended: clock::since_epoch(),
            taken: trail.elapsed(),
            stages: trail.stages().into(),
            action: trail.action.map_or("request", Action::as_str),
            request: trail.id.as_str().into(),
            disposition: disposition.outcome().as_str(),
            status: disposition.status(),
            codes: codes.iter().map(|code| code.as_str()).collect(),
            model: labels.map(|labels| [labels.model(), labels.version()]),
            caller: trail
                .principal
                .as_deref()
                .map(|caller| caller.label().name()),
        })
    }

    /// How many spans it is: its own, one a stage, and the record's.
    pub(super) fn spans(&self) -> usize {
        self.stages.len() + 2
    }

    /// Adds its spans.
    pub(super) fn add_to(&self, spans: &mut Vec<Span>) {
        let start = self.ended.saturating_sub(self.taken);
        spans.push(Span {
            kind: SpanKind::Server.into(),
            attributes: self.attributes(),
            // Of servers, only their own faults are errors (HTTP semantic conventions).
            status: (self.status >= 500).then(|| Status {
                code: StatusCode::Error.into(),
            }),
            flags: match self.place.parent {
                Some(_) => SAMPLED | HAS_IS_REMOTE | IS_REMOTE,
                None => SAMPLED | HAS_IS_REMOTE,
            },
            ..self.span(
                self.place.span,
                self.place.parent,
                self.action,
                start,
                self.ended,
            )
        });
        let mut from = start;
        let stages = self.stages.iter();
        let stages = stages.map(|(stage, taken)| (stage.as_str(), Some(*taken)));
        for (number, (name, taken)) in (1_u8..).zip(stages.chain([(RECORD, None)])) {
            let until = taken.map_or(self.ended, |taken| (from + taken).min(self.ended));
            let (id, parent) = (self.place.child(number), Some(self.place.span));
            spans.push(Span {
                kind: SpanKind::Internal.into(),
                flags: SAMPLED | HAS_IS_REMOTE,
                ..self.span(id, parent, name, from, until)
            });
            from = until;
        }
    }

    fn span(
        &self,
        id: [u8; 8],
        parent: Option<[u8; 8]>,
        name: &str,
        start: Duration,
        end: Duration,
    ) -> Span {
        let nanoseconds = |at: Duration| u64::try_from(at.as_nanos()).unwrap_or(u64::MAX);
        Span {
            trace_id: self.place.trace.to_vec(),
            span_id: id.to_vec(),
            parent_span_id: parent.map(|id| id.to_vec()).unwrap_or_default(),
            name: name.to_owned(),
            start_time_unix_nano: nanoseconds(start),
            end_time_unix_nano: nanoseconds(end),
            ..Span::default()
        }
    }

    fn attributes(&self) -> Vec<KeyValue> {
        let status = Value::Number(self.status.into());
        let mut attributes = vec![
            KeyValue::new("http.response.status_code", status),
            KeyValue::new("vitalgate.request.id", &*self.request),
            KeyValue::new("vitalgate.disposition", self.disposition),
        ];
        if !self.codes.is_empty() {
            attributes.push(KeyValue::new("vitalgate.codes", Value::list(&self.codes)));
        }
        if let Some([name, version]) = &self.model {
            attributes.push(KeyValue::new("vitalgate.model.name", &**name));
            attributes.push(KeyValue::new("vitalgate.model.version", &**version));
        }
        if let Some(caller) = &self.caller {
            attributes.push(KeyValue::new("vitalgate.caller", &**caller));
        }
        attributes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disposition::Code;

    #[test]
    fn a_request_is_a_span_with_one_for_each_stage_end_to_end() {
        let mut trail = Trail::start(([127, 0, 0, 1], 1).into());
        for stage in [Stage::Authenticate, Stage::Authorize] {
            trail.mark(stage, ());
        }
        let refused = Disposition::Refused(Code::Internal.into());
        assert!(Traced::of(&trail, &refused, 0.0).is_none());
        let traced = Traced::of(&trail, &refused, 1.0).unwrap();
        let mut spans = Vec::new();
        traced.add_to(&mut spans);
        assert_eq!(spans.len(), traced.spans());
        let names: Vec<&str> = spans.iter().map(|span| span.name.as_str()).collect();
        assert_eq!(names, ["request", "authenticate", "authorize", "record"]);
        let (request, stages) = spans.split_first().unwrap();
        assert_eq!(hex::encode(&request.trace_id), trail.id);
        assert_eq!(
            (request.span_id.len(), request.parent_span_id.len()),
            (8, 0)
        );
        assert_eq!(request.status.as_ref().unwrap().code(), StatusCode::Error);
        assert_eq!(stages[0].start_time_unix_nano, request.start_time_unix_nano);
        assert_eq!(stages[2].end_time_unix_nano, request.end_time_unix_nano);
        for (one, next) in stages.iter().zip(&stages[1..]) {
            assert_eq!(one.end_time_unix_nano, next.start_time_unix_nano);
            assert_ne!(one.span_id, next.span_id);
        }
        for stage in stages {
            assert_eq!(stage.parent_span_id, request.span_id);
            assert_ne!(stage.span_id, request.span_id);
        }
    }
}
