//! The ops console: the admin plane for people, as pages.
//!
//! Written by the server, with no script and nothing from anywhere else. Who may see a page is
//! decided as for every other call, and a page shows no control that its reader may not use. A
//! control is a form that asks for a reason; it does what the call of the API does ([`form`]).

use std::sync::{Arc, LazyLock};

use aws_lc_rs::digest::{SHA256, digest};
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::{Administration, Declined};
use crate::{
    authn::Principal,
    authz::{Action, Plane},
    clock,
    disposition::Code,
    trail::Trail,
};

mod callers;
mod chart;
mod evidence;
pub(super) mod form;
mod model;
mod overview;
mod settings;

/// Where the console is.
pub(super) const ROOT: &str = "/console";

const STYLE: &str = include_str!("console/console.css");

/// What a page may load and do: its own style, which is in it, and its own forms.
static POLICY: LazyLock<String> = LazyLock::new(|| {
    let style = STANDARD.encode(digest(&SHA256, STYLE.as_bytes()));
    format!(
        "default-src 'none'; style-src 'sha256-{style}'; img-src data:; form-action 'self'; \
         base-uri 'none'; frame-ancestors 'none'"
    )
});

/// A page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Page {
    Overview,
    Model { name: String, version: u32 },
    Callers,
    Audit,
    Configuration,
}

impl Page {
    /// What its reader has to be permitted.
    pub(super) fn action(&self) -> Action {
        match self {
            Self::Overview | Self::Model { .. } | Self::Callers | Self::Configuration => {
                Action::ReadMetrics
            }
            Self::Audit => Action::ReadAudit,
        }
    }
}

/// Whether a path is the console's.
pub(super) fn has(path: &str) -> bool {
    path.strip_prefix(ROOT)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Who looks, and at what server.
pub(super) struct View<'a> {
    pub(super) of: &'a Arc<Administration>,
    pub(super) principal: &'a Arc<Principal>,
}

impl View<'_> {
    fn may(&self, action: Action) -> bool {
        let authorizer = &self.of.application.pipeline.authorizer;
        authorizer
            .authorize_server(Plane::Admin, self.principal, action)
            .is_ok()
    }

    fn may_with(&self, action: Action, model: &str) -> bool {
        let authorizer = &self.of.application.pipeline.authorizer;
        authorizer
            .authorize(Plane::Admin, self.principal, action, model)
            .is_ok()
    }

    /// A whole page.
    fn page(&self, title: &str, here: &str, main: &Markup) -> String {
        let link = |path: &str, text: &str| {
            let path = format!("{ROOT}{path}");
            let current = (path == here).then_some("page");
            html! { li { a href=(path) aria-current=[current] { (text) } } }
        };
        let header = html! {
            nav aria-label="Pages" {
                ul {
                    @if self.may(Action::ReadMetrics) {
                        (link("", "Overview"))
                        (link("/callers", "Callers"))
                        (link("/configuration", "Configuration"))
                    }
                    @if self.may(Action::ReadAudit) { (link("/audit", "Audit log")) }
                }
            }
            p.who { (self.principal.name()) }
        };
        shell(title, &header, main)
    }
}

/// Writes a page for who may see it.
pub(super) async fn render(view: &View<'_>, page: &Page, query: &str) -> Result<String, Declined> {
    if !query.is_empty() && !matches!(page, Page::Model { .. }) {
        return Err(Code::InvalidQuery.into());
    }
    match page {
        Page::Overview => Ok(overview::page(view)),
        Page::Model { name, version } => model::page(view, name, *version, query),
        Page::Callers => Ok(callers::page(view)),
        Page::Audit => evidence::page(view).await,
        Page::Configuration => Ok(settings::page(view)),
    }
}

/// What a control did.
pub(super) fn done(view: &View<'_>, target: &str) -> String {
    let main = html! {
        section.done {
            p { "In force and on record: " strong { (target) } "." }
            p { a href=(ROOT) { "Back to the overview" } }
        }
    };
    view.page("Done", "", &main)
}

/// Why there is no page, or why a control did nothing.
pub(crate) fn refused(trail: &Trail, code: Code, cause: Option<&str>) -> String {
    let main = html! {
        section.notice {
            p { (code.remedy()) }
            @if let Some(cause) = cause { p { (cause) } }
            dl.facts {
                dt { "Code" } dd { code { (code.as_str()) } }
                dt { "Request" } dd { code { (trail.id) } }
            }
            p { a href=(ROOT) { "To the overview" } }
        }
    };
    shell(code.title(), &html! {}, &main)
}

/// Headers of a page.
pub(crate) fn headers(headers: &mut HeaderMap) {
    let policy = HeaderValue::from_str(&POLICY).ok();
    let fixed = [
        ("x-content-type-options", "nosniff"),
        // A stricter one would send forms without their origin.
        ("referrer-policy", "same-origin"),
        ("cross-origin-opener-policy", "same-origin"),
        ("cross-origin-resource-policy", "same-origin"),
    ];
    for (name, value) in fixed {
        let value = HeaderValue::from_static(value);
        headers.insert(HeaderName::from_static(name), value);
    }
    if let Some(policy) = policy {
        headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    }
}

fn shell(title: &str, header: &Markup, main: &Markup) -> String {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (title) " – vitalgate" }
                // Or the browser asks for one.
                link rel="icon" href="data:,";
                style { (PreEscaped(STYLE)) }
            }
            body {
                a.skip href="#main" { "Skip to content" }
                header { p.brand { "vitalgate" } (header) }
                main id="main" tabindex="-1" {
                    h1 { (title) }
                    (main)
                }
                footer { p.soft { "As of " (moment(clock::since_epoch())) ". Load the page again for newer numbers." } }
            }
        }
    };
    page.into_string()
}

/// A time to the second.
fn moment(time: std::time::Duration) -> Markup {
    let exact = clock::rfc3339_at(std::time::Duration::from_secs(time.as_secs()));
    html! { time datetime=(exact) { (exact.replace('T', " ").replace('Z', " UTC")) } }
}

/// A table that scrolls by itself where it is too wide, with a keyboard too.
fn table(label: &str, head: &[&str], rows: &Markup) -> Markup {
    html! {
        div.scroll role="region" aria-label={ "Table: " (label) } tabindex="0" {
            table {
                thead { tr { @for name in head { th scope="col" { (name) } } } }
                tbody { (rows) }
            }
        }
    }
}

/// A state in a word, with a sign and a colour.
fn state(word: &str) -> Markup {
    let kind = match word {
        "serving" | "active" | "good" | "none" | "off" | "no alarm" => "good",
        "policy-expired" | "slowed down" | "bands only" | "reviewed" => "warn",
        "not watched" | "too few values" => "soft",
        _ => "bad",
    };
    html! { span class={ "state " (kind) } { (word) } }
}

/// A name in a path.
fn in_path(name: &str) -> String {
    let encoded: String = form_urlencoded::byte_serialize(name.as_bytes()).collect();
    // In a path, + is a plus.
    encoded.replace('+', "%20")
}
