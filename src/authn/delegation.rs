//! For whom a caller acts: the clinician, as its token or an authorised header says.
//!
//! It names a member of staff for the audit record. It gives no rights, and it is not the place
//! for anything about a patient.

use axum::http::{HeaderMap, HeaderName};

use super::Principal;
use crate::disposition::Code;

/// The header in which a principal that may do so names the clinician.
pub const ON_BEHALF_OF: HeaderName = HeaderName::from_static("x-on-behalf-of");

/// Longest identifier, bytes.
const LONGEST: usize = 128;

/// Whether a text can stand in a record as somebody's identifier: short, one line, no spaces.
pub(super) fn is_identifier(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~:/@#|+=".contains(&b);
    (1..=LONGEST).contains(&text.len()) && text.bytes().all(plain)
}

/// The clinician for whom this request is made, if anybody says so.
///
/// # Errors
/// When the header is not well-formed, contradicts the token, or the principal may not use it.
pub fn on_behalf_of(principal: &Principal, headers: &HeaderMap) -> Result<Option<String>, Code> {
    let mut values = headers.get_all(&ON_BEHALF_OF).iter();
    let Some(value) = values.next() else {
        return Ok(principal.clinician.clone());
    };
    // Not passed over in silence: the record would name nobody, or the wrong one.
    if !principal.names_clinician {
        return Err(Code::OnBehalfOfNotPermitted);
    }
    let named = value.to_str().ok().filter(|text| is_identifier(text));
    let named = named
        .filter(|_| values.next().is_none())
        .ok_or(Code::OnBehalfOfInvalid)?;
    match &principal.clinician {
        Some(clinician) if clinician != named => Err(Code::OnBehalfOfInvalid),
        Some(_) | None => Ok(Some(named.to_owned())),
    }
}
