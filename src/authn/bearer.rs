//! The `Authorization` header (RFC 6750 section 2.1), and the challenge of an answer.

use axum::http::{HeaderMap, header};

use crate::disposition::Code;

/// Longest token, bytes.
const LONGEST: usize = 8 * 1024;

/// The one bearer token of a request. Tokens in the query or the body are not looked at
/// (RFC 6750 sections 2.2 and 2.3: they end up in logs).
pub(super) fn token(headers: &HeaderMap) -> Result<&str, Code> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let value = values.next().ok_or(Code::TokenRequired)?;
    if values.next().is_some() {
        // Whoever is in front of us may have looked at the other one.
        return Err(Code::AuthorizationAmbiguous);
    }
    let malformed = Code::AuthorizationMalformed;
    let text = value.to_str().map_err(|_| malformed)?;
    let (scheme, token) = text.split_once(' ').ok_or(malformed)?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(malformed);
    }
    if token.len() > LONGEST {
        return Err(Code::TokenTooLarge);
    }
    // A JWS in compact form and nothing else: no second space, comma or parameter.
    let jws = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    if token.is_empty() || !token.bytes().all(jws) {
        return Err(malformed);
    }
    Ok(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: &[&str]) -> Result<String, Code> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::AUTHORIZATION, value.parse().unwrap());
        }
        token(&headers).map(str::to_owned)
    }

    #[test]
    fn one_header_with_one_token_is_read() {
        for value in ["Bearer a.b.c", "bearer a.b.c", "BEARER a.b.c"] {
            assert_eq!(of(&[value]).as_deref(), Ok("a.b.c"), "{value}");
        }
        assert_eq!(of(&[]), Err(Code::TokenRequired));
    }

    #[test]
    fn everything_else_is_refused() {
        for value in [
            "",
            "Bearer",
            "Bearer ",
            "Bearer  a.b.c",
            "Bearer\ta.b.c",
            "Bearer a.b.c d",
            "Bearer a.b.c,Bearer d.e.f",
            "Bearer a.b.c=",
            "Bearer \"a.b.c\"",
            "Basic a.b.c",
            "DPoP a.b.c",
            "Bearera.b.c",
            "a.b.c",
        ] {
            assert_eq!(of(&[value]), Err(Code::AuthorizationMalformed), "{value}");
        }
        let two = of(&["Bearer a.b.c", "Bearer a.b.c"]);
        assert_eq!(two, Err(Code::AuthorizationAmbiguous));
        let huge = format!("Bearer {}", "a".repeat(LONGEST + 1));
        assert_eq!(of(&[&huge]), Err(Code::TokenTooLarge));
    }
}
