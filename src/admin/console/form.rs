//! Controls: forms that say why, sent by this server's own pages and by nobody else's.
//!
//! A client certificate authenticates whatever the browser sends, so another site could send a
//! form in the reader's name. It cannot: a form has to name our origin (`Origin`, and
//! `Sec-Fetch-Site` where the browser says), and to bring a token that only our pages have.

use aws_lc_rs::{hmac, rand};
use axum::{
    body::Body,
    http::{HeaderMap, header},
};
use maud::{Markup, html};

use super::{ROOT, View};
use crate::{
    admin::{Administration, Declined, change::Explained, target::Change},
    authn::Principal,
    disposition::Code,
    receive::{self, Framing, Media},
};

/// Authenticates forms to the process that wrote them.
#[derive(Debug)]
pub struct FormKey(Option<hmac::Key>);

impl FormKey {
    /// A new one. Without randomness there is none, and no form is taken.
    pub fn generate() -> Self {
        Self(hmac::Key::generate(hmac::HMAC_SHA256, &rand::SystemRandom::new()).ok())
    }

    /// The token of a principal's forms.
    fn token(&self, principal: &Principal) -> String {
        let sign = |key| hmac::sign(key, principal.name().as_bytes());
        self.0
            .as_ref()
            .map(sign)
            .map_or_else(String::new, hex::encode)
    }

    fn verify(&self, principal: &Principal, token: &str) -> Result<(), Code> {
        let given = hex::decode(token).map_err(|_| Code::ForeignForm)?;
        let key = self.0.as_ref().ok_or(Code::ForeignForm)?;
        hmac::verify(key, principal.name().as_bytes(), &given).map_err(|_| Code::ForeignForm)
    }
}

/// Reads a form that was sent to make a change.
pub(in crate::admin) async fn read(
    of: &Administration,
    principal: &Principal,
    change: Change,
    (headers, body): (HeaderMap, Body),
    framing: &Framing,
) -> Result<Explained, Declined> {
    if !is_ours(&headers) {
        return Err(Code::ForeignForm.into());
    }
    let body = receive::whole(&headers, body, Media::Form, &of.body, framing).await?;
    let (mut token, mut reason, mut on) = (None, None, None);
    for (name, value) in form_urlencoded::parse(body.expose()) {
        let field = match &*name {
            "token" => &mut token,
            "reason" => &mut reason,
            "on" => &mut on,
            _ => return Err(Code::InvalidChange.into()),
        };
        if field.replace(value).is_some() {
            return Err(Code::InvalidChange.into());
        }
    }
    of.forms.verify(principal, &token.unwrap_or_default())?;
    let on = match on.as_deref() {
        None => None,
        Some("true") => Some(true),
        Some("false") => Some(false),
        Some(_) => return Err(Code::InvalidChange.into()),
    };
    Explained::new(change, &reason.unwrap_or_default(), on)
}

/// Whether a page of ours sent it, as the browser says.
fn is_ours(headers: &HeaderMap) -> bool {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let origin = text(header::ORIGIN.as_str()).and_then(|origin| origin.strip_prefix("https://"));
    let same = origin.is_some() && origin == text(header::HOST.as_str());
    same && text("sec-fetch-site").is_none_or(|site| site == "same-origin")
}

/// A control that opens to a form. `says` is what it does, `on` which way for read-only mode.
pub(super) fn control(
    view: &View<'_>,
    path: &str,
    label: &str,
    says: &str,
    on: Option<bool>,
) -> Markup {
    let id = path.replace(['/', '%'], "-");
    html! {
        details.control {
            summary { (label) }
            form method="post" action={ (ROOT) (path) } {
                p { (says) }
                input type="hidden" name="token" value=(view.of.forms.token(view.principal));
                @if let Some(on) = on { input type="hidden" name="on" value=(on); }
                label for={ "reason" (id) } { "Reason" }
                input id={ "reason" (id) } name="reason" required minlength="3" maxlength="200"
                    pattern=r"[A-Za-z0-9 .,:;\(\)\/#@+_\-]+" autocomplete="off"
                    aria-describedby={ "hint" (id) };
                p.hint id={ "hint" (id) } {
                    "It goes into the audit log with your name: 3 to 200 letters, digits, spaces and "
                    ".,:;()/#@+-_ and nothing about a patient."
                }
                button type="submit" { (label) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn a_form_names_our_origin() {
        let headers = |fields: &[(&'static str, &'static str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in fields {
                headers.insert(*name, HeaderValue::from_static(value));
            }
            is_ours(&headers)
        };
        let (host, origin) = (("host", "a:9443"), ("origin", "https://a:9443"));
        assert!(headers(&[host, origin]));
        assert!(headers(&[host, origin, ("sec-fetch-site", "same-origin")]));
        for foreign in [
            &[host][..],
            &[host, ("origin", "null")],
            &[host, ("origin", "http://a:9443")],
            &[host, ("origin", "https://a")],
            &[host, ("origin", "https://b:9443")],
            &[origin],
            &[host, origin, ("sec-fetch-site", "same-site")],
            &[host, origin, ("sec-fetch-site", "cross-site")],
        ] {
            assert!(!headers(foreign), "{foreign:?}");
        }
    }
}
