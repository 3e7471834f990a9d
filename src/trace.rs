//! W3C Trace Context: a request's place in its caller's trace.
//!
//! <https://www.w3.org/TR/trace-context/>. A caller that sends `traceparent` gets one back, with its
//! own trace and a span of ours, and every line that the server logs about the request names both.
//! Only ids go through, and only in their one form: they are the caller's text. `tracestate` is
//! not read. Whoever sends none gets none, and costs nothing.

use std::fmt;

use axum::http::{HeaderMap, HeaderName, HeaderValue};

/// The header.
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// Where a request's span is in a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// The trace.
    pub(crate) trace: [u8; 16],
    /// The request's span.
    pub(crate) span: [u8; 8],
    /// The caller's span; none in a trace that begins here.
    pub(crate) parent: Option<[u8; 8]>,
}

impl Place {
    /// Of a request whose caller has no trace: its own random id is the trace's, and `share` of
    /// these are sampled.
    pub(crate) fn root(request: &str, share: f64) -> Option<Self> {
        let trace = digits::<16>(request)?;
        let (span, rest) = trace.split_first_chunk::<8>()?;
        let &[a, b, c, d, ..] = rest else {
            return None;
        };
        let drawn = f64::from(u32::from_be_bytes([a, b, c, d])) / (f64::from(u32::MAX) + 1.0);
        let drawn_at_all = trace != [0; 16];
        (drawn_at_all && drawn < share).then_some(Self {
            trace,
            span: *span,
            parent: None,
        })
    }

    /// The span of a part of the request: other than its own, and than those of its other parts.
    pub(crate) fn child(&self, number: u8) -> [u8; 8] {
        let mut id = self.span;
        if let Some(last) = id.last_mut() {
            *last ^= number;
        }
        id
    }
}

/// A caller's trace, and our span in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    id: [u8; 16],
    parent: [u8; 8],
    span: [u8; 8],
    sampled: bool,
}

impl Trace {
    /// Goes on with the caller's trace, if there is one; `request` is the request's own id, whose
    /// first half names the span. More than one header, or one that is not exactly as the
    /// recommendation has it, is none.
    pub fn of(headers: &HeaderMap, request: &str) -> Option<Self> {
        let mut given = headers.get_all(TRACEPARENT).iter();
        let text = given.next()?.to_str().ok()?;
        if given.next().is_some() {
            return None;
        }
        let mut fields = text.split('-');
        let (version, id) = (fields.next()?, fields.next()?);
        let (parent, flags) = (fields.next()?, fields.next()?);
        // A later version may have more fields; ours and the unknown one may not.
        if version == "ff" || (version == "00" && fields.next().is_some()) {
            return None;
        }
        let [_version] = digits::<1>(version)?;
        let [flags] = digits::<1>(flags)?;
        let (id, parent) = (digits::<16>(id)?, digits::<8>(parent)?);
        let zero = |bytes: &[u8]| bytes.iter().all(|b| *b == 0);
        if zero(&id) || zero(&parent) {
            return None;
        }
        Some(Self {
            id,
            parent,
            span: digits::<8>(request.get(..16)?)?,
            sampled: flags & 1 == 1,
        })
    }

    /// Our span's place, if the caller has its trace sampled.
    pub(crate) fn sampled_place(&self) -> Option<Place> {
        self.sampled.then_some(Place {
            trace: self.id,
            span: self.span,
            parent: Some(self.parent),
        })
    }

    /// What the answer says.
    pub fn header(&self) -> Option<HeaderValue> {
        HeaderValue::from_str(&self.to_string()).ok()
    }

    /// A span for what is logged about the request: ids, and nothing else.
    pub fn span(&self) -> tracing::Span {
        let hex = |bytes: &[u8]| hex::encode(bytes);
        tracing::info_span!(
            "request",
            trace_id = hex(&self.id),
            span_id = hex(&self.span),
            parent_id = hex(&self.parent),
        )
    }
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (id, span) = (hex::encode(self.id), hex::encode(self.span));
        write!(f, "00-{id}-{span}-{:02x}", u8::from(self.sampled))
    }
}

/// `N` bytes in lower-case hexadecimal digits, exactly.
fn digits<const N: usize>(text: &str) -> Option<[u8; N]> {
    if text.bytes().any(|b| b.is_ascii_uppercase()) {
        return None;
    }
    let mut bytes = [0; N];
    hex::decode_to_slice(text, &mut bytes).ok()?;
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const REQUEST: &str = "7a09b6f1e49f44b152feea6bdc9b1069";

    fn of(values: &[&str]) -> Option<String> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(TRACEPARENT, HeaderValue::from_str(value).unwrap());
        }
        Trace::of(&headers, REQUEST).map(|trace| trace.to_string())
    }

    #[test]
    fn a_trace_goes_on_with_a_span_of_ours() {
        let given = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let ours = "00-0af7651916cd43dd8448eb211c80319c-7a09b6f1e49f44b1-01";
        assert_eq!(of(&[given]).as_deref(), Some(ours));
        // A later version, with more to it, of which one flag is known.
        let later = "cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-fe-more";
        let ours = "00-0af7651916cd43dd8448eb211c80319c-7a09b6f1e49f44b1-00";
        assert_eq!(of(&[later]).as_deref(), Some(ours));
    }

    #[test]
    fn a_trace_of_ours_begins_with_the_requests_id_and_a_share_is_sampled() {
        let root = Place::root(REQUEST, 1.0).unwrap();
        assert_eq!(hex::encode(root.trace), REQUEST);
        assert_eq!(
            (hex::encode(root.span).as_str(), root.parent),
            (&REQUEST[..16], None)
        );
        // 52feea6b is 0.3242 of the way.
        assert!(Place::root(REQUEST, 0.32).is_none() && Place::root(REQUEST, 0.33).is_some());
        assert!(Place::root(REQUEST, 0.0).is_none());
        assert!(Place::root(&"0".repeat(32), 1.0).is_none());
        assert_ne!(root.child(1), root.child(2));
    }

    #[test]
    fn what_is_not_exactly_a_traceparent_is_none() {
        let good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[good, good]), None);
        for bad in [
            "",
            "00",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
            "00-0af7651916cd43dd8448eb211c80319-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-1",
            "00-patient-734921558-01",
        ] {
            assert_eq!(of(&[bad]), None, "{bad}");
        }
    }
}
