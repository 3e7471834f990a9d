//! What answers say to people, in the language that the request asks for.
//!
//! The texts are in message catalogues (Fluent), one a language; codes never change with it. What a
//! message is about comes as text: nothing that formats numbers sees a value, and a message is
//! made, written and dropped with its answer.

use std::sync::LazyLock;

use axum::http::{HeaderMap, header};
use fluent_bundle::{FluentArgs, FluentResource, concurrent::FluentBundle};

use crate::{
    bundle::model::{Feature, Kind, ModelSpec},
    disposition::{Finding, ReviewReason, Words},
    units,
};

/// A language that answers are written in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Language {
    /// Where nothing else is asked for.
    #[default]
    English,
    /// German.
    German,
}

impl Language {
    /// Every one.
    pub const ALL: [Self; 2] = [Self::English, Self::German];

    /// As `Content-Language` writes it (RFC 5646).
    pub fn as_str(self) -> &'static str {
        match self {
            Self::English => "en",
            Self::German => "de",
        }
    }

    /// The one that the caller likes best of those there are: `Accept-Language`, RFC 9110 section
    /// 12.5.4; a range matches what it is a prefix of (RFC 4647 section 3.3.1), or what its own
    /// first part is.
    pub fn asked_for(headers: &HeaderMap) -> Self {
        let mut best = (0.0, Self::default());
        for value in headers.get_all(header::ACCEPT_LANGUAGE) {
            for part in value.to_str().unwrap_or_default().split(',') {
                let (range, parameters) = part.split_once(';').unwrap_or((part, ""));
                let weight = parameters.trim().strip_prefix("q=");
                let weight = weight.map_or(Some(1.0), |q| q.trim().parse::<f32>().ok());
                let weight = weight.filter(|q| (0.0..=1.0).contains(q)).unwrap_or(0.0);
                let first = range.trim().split('-').next().unwrap_or_default();
                let named = |language: &Self| first.eq_ignore_ascii_case(language.as_str());
                let language = match first {
                    "*" => Some(Self::default()),
                    _ => Self::ALL.into_iter().find(named),
                };
                if let Some(language) = language.filter(|_| weight > best.0) {
                    best = (weight, language);
                }
            }
        }
        best.1
    }

    fn source(self) -> &'static str {
        match self {
            Self::English => include_str!("catalogue/en.ftl"),
            Self::German => include_str!("catalogue/de.ftl"),
        }
    }

    fn catalogue(self) -> &'static FluentBundle<FluentResource> {
        static ENGLISH: LazyLock<FluentBundle<FluentResource>> =
            LazyLock::new(|| load(Language::English));
        static GERMAN: LazyLock<FluentBundle<FluentResource>> =
            LazyLock::new(|| load(Language::German));
        match self {
            Self::English => &ENGLISH,
            Self::German => &GERMAN,
        }
    }

    /// A message. A key or an argument that is missing leaves its own name: a test shows that none
    /// is.
    fn say(self, key: &str, arguments: &[(&'static str, &str)]) -> String {
        let catalogue = self.catalogue();
        let Some(pattern) = catalogue.get_message(key).and_then(|m| m.value()) else {
            return key.to_owned();
        };
        let mut values = FluentArgs::with_capacity(arguments.len());
        for (name, value) in arguments {
            values.set(*name, *value);
        }
        let mut errors = Vec::new();
        let text = catalogue.format_pattern(pattern, Some(&values), &mut errors);
        text.into_owned()
    }

    /// A number without the noise of binary fractions, as the language writes it.
    fn number(self, value: f64) -> String {
        let text = format!("{value:.6}");
        let text = text.trim_end_matches('0').trim_end_matches('.');
        match self {
            Self::English => text.to_owned(),
            Self::German => text.replace('.', ","),
        }
    }

    /// A unit behind a number, as people read it.
    fn unit(self, code: &str) -> String {
        let unit = match code {
            "a" => self.say("years", &[]),
            "mo" => self.say("months", &[]),
            "wk" => self.say("weeks", &[]),
            "d" => self.say("days", &[]),
            code => units::print_symbol(code),
        };
        if unit.is_empty() {
            return unit;
        }
        format!(" {unit}")
    }

    /// Plain words for a reason, with what to do.
    pub(super) fn reason(self, spec: &ModelSpec, reason: &ReviewReason) -> String {
        let first = reason.features.first().and_then(|&i| spec.features.get(i));
        match &reason.words {
            Words::Range => first.map_or_else(String::new, |feature| self.range(feature)),
            Words::Missing { count: 1, allowed } => {
                self.say("missing-one", &[("allowed", &allowed.to_string())])
            }
            Words::Missing { count, allowed } => self.say(
                "missing",
                &[
                    ("count", &count.to_string()),
                    ("allowed", &allowed.to_string()),
                ],
            ),
            Words::Rule(index) => spec.rule_message(*index, self.as_str()).to_owned(),
            Words::Findings => self.findings(spec, &reason.findings),
            Words::CallerUnderReview => self.say("caller-under-review", &[]),
            Words::Disagreement => self.say("disagreement", &[]),
            Words::NoQuorum => self.say("no-quorum", &[]),
            Words::Degraded => self.say("degraded", &[]),
            Words::Unlooked => self.say("unlooked", &[]),
            Words::Unstable => self.say("unstable", &[]),
            Words::UnstableBetween { low, high } => {
                let bands = [("low", spec.band(*low)), ("high", spec.band(*high))];
                self.say("unstable-between", &bands)
            }
        }
    }

    fn range(self, feature: &Feature) -> String {
        let (min, max) = (feature.expected.min, feature.expected.max);
        let range = self.say(
            "range-of",
            &[
                ("min", &self.number(min)),
                ("max", &self.number(max)),
                ("unit", &self.unit(&feature.unit)),
            ],
        );
        let title = feature.title_in(self.as_str());
        self.say("range", &[("feature", title), ("range", &range)])
    }

    fn findings(self, spec: &ModelSpec, findings: &[Finding]) -> String {
        let mut text = match findings.first() {
            Some(finding) => self.finding(spec, finding),
            None => self.say("together", &[]),
        };
        let title = |finding: &Finding| {
            let feature = spec.features.get(finding.feature);
            feature.map_or("", |feature| feature.title_in(self.as_str()))
        };
        match findings.get(1..).unwrap_or_default() {
            [] => {}
            [one] => text.push_str(&self.say("look-at-one", &[("first", title(one))])),
            [one, two, ..] => {
                let both = [("first", title(one)), ("second", title(two))];
                text.push_str(&self.say("look-at-two", &both));
            }
        }
        text
    }

    fn finding(self, spec: &ModelSpec, finding: &Finding) -> String {
        let Some(feature) = spec.features.get(finding.feature) else {
            return String::new();
        };
        let (value, typical) = (*finding.value.expose(), *finding.typical.expose());
        let title = feature.title_in(self.as_str());
        if feature.kind == Kind::Boolean {
            let word = |yes: bool| self.say(if yes { "yes" } else { "no" }, &[]);
            return self.say(
                "finding-entry",
                &[
                    ("feature", title),
                    ("value", &word(value > 0.5)),
                    ("typical", &word(typical > 0.5)),
                ],
            );
        }
        let ratio = (value / typical).abs();
        let key = if feature.kind == Kind::Quantity && !(0.6..=1.6).contains(&ratio) {
            "finding-decimal"
        } else {
            "finding-confirm"
        };
        let unit = self.unit(finding.unit.expose());
        let with_unit = |number: f64| format!("{}{unit}", self.number(number));
        self.say(
            key,
            &[
                ("feature", title),
                ("value", &with_unit(value)),
                ("typical", &with_unit(typical)),
            ],
        )
    }
}

fn load(language: Language) -> FluentBundle<FluentResource> {
    let locale = language.as_str().parse().unwrap_or_default();
    let mut bundle = FluentBundle::new_concurrent(vec![locale]);
    // Marks around arguments would be part of what is read aloud or compared.
    bundle.set_use_isolating(false);
    let resource = match FluentResource::try_new(language.source().to_owned()) {
        Ok(resource) | Err((resource, _)) => resource,
    };
    bundle.add_resource_overriding(resource);
    bundle
}

#[cfg(test)]
mod tests;
