//! Every message is in every language, and says what it is about.

use std::collections::BTreeSet;

use axum::http::HeaderValue;

use super::*;
use crate::{
    disposition::{Code, Outcome},
    phi::Phi,
    specimens,
};

/// Keys, and the arguments that a message takes.
fn keys(language: Language) -> BTreeSet<(String, BTreeSet<String>)> {
    let lines = language.source().lines();
    let messages = lines.filter(|line| !line.starts_with('#') && line.contains(" = "));
    messages
        .map(|line| {
            let (key, text) = line.split_once(" = ").unwrap();
            let arguments = text.split("{ $").skip(1);
            let arguments = arguments.map(|rest| rest.split(' ').next().unwrap().to_owned());
            (key.to_owned(), arguments.collect())
        })
        .collect()
}

#[test]
fn every_message_is_in_every_language_and_takes_the_same() {
    let english = keys(Language::English);
    assert!(english.len() > 10);
    for language in Language::ALL {
        assert!(FluentResource::try_new(language.source().to_owned()).is_ok());
        assert_eq!(keys(language), english, "{language:?}");
    }
}

#[test]
fn the_language_is_what_was_asked_for_or_english() {
    for (accepted, language) in [
        ("de", Language::German),
        ("DE-at", Language::German),
        ("fr, de;q=0.8, en;q=0.7", Language::German),
        ("de;q=0.2, en;q=0.9", Language::English),
        ("de;q=0", Language::English),
        ("de;q=x", Language::English),
        ("fr", Language::English),
        ("*", Language::English),
        ("", Language::English),
        ("deu", Language::English),
    ] {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT_LANGUAGE, HeaderValue::from_static(accepted));
        assert_eq!(Language::asked_for(&headers), language, "{accepted}");
    }
    assert_eq!(Language::asked_for(&HeaderMap::new()), Language::English);
}

/// A reason of each kind of words.
fn reasons() -> Vec<ReviewReason> {
    let finding = |feature: usize, value: f64, typical: f64, unit: &str| Finding {
        feature,
        value: Phi::new(value),
        typical: Phi::new(typical),
        unit: Phi::new(unit.to_owned()),
    };
    let spec = specimens::icu();
    let (hematocrit, male) = (spec.by_name["hematocrit"], spec.by_name["male"]);
    let reason = |code, features: Vec<usize>, words| ReviewReason::new(code, features, words);
    let atypical = |findings: Vec<Finding>| ReviewReason {
        findings,
        ..reason(Code::Atypical, Vec::new(), Words::Findings)
    };
    vec![
        reason(Code::OutsideExpected, vec![hematocrit], Words::Range),
        reason(
            Code::TooMuchMissing,
            vec![],
            Words::Missing {
                count: 3,
                allowed: 1,
            },
        ),
        reason(
            Code::TooMuchMissing,
            vec![],
            Words::Missing {
                count: 1,
                allowed: 0,
            },
        ),
        reason(Code::ImplausibleCombination, vec![], Words::Rule(0)),
        atypical(vec![finding(hematocrit, 3.4, 34.0, "%")]),
        atypical(vec![
            finding(hematocrit, 30.5, 34.0, "%"),
            finding(male, 1.0, 0.0, "1"),
        ]),
        atypical(vec![finding(male, 1.0, 0.0, "1")]),
        atypical(vec![]),
        reason(Code::CallerUnderReview, vec![], Words::CallerUnderReview),
        reason(Code::Disagreement, vec![], Words::Disagreement),
        reason(Code::MemberFailed, vec![], Words::NoQuorum),
        reason(Code::MemberFailed, vec![], Words::Degraded),
        reason(Code::MemberFailed, vec![], Words::Unlooked),
        reason(Code::Unstable, vec![], Words::Unstable),
        reason(
            Code::Unstable,
            vec![],
            Words::UnstableBetween { low: 0, high: 2 },
        ),
    ]
}

#[test]
fn every_reason_has_words_in_every_language() {
    let spec = specimens::icu();
    let spoken: BTreeSet<Code> = reasons().iter().map(|r| r.code).collect();
    let reviews = Code::ALL.iter().copied();
    let reviews = reviews.filter(|code| code.outcome() == Outcome::Review);
    assert_eq!(spoken, reviews.collect());
    let said = |language: Language| -> Vec<String> {
        let reasons = reasons();
        reasons.iter().map(|r| language.reason(&spec, r)).collect()
    };
    let (english, german) = (said(Language::English), said(Language::German));
    for (english, german) in english.iter().zip(&german) {
        println!("{english}\n  {german}");
        for text in [english, german] {
            assert!(
                text.len() > 20 && !text.contains('{') && !text.contains('$'),
                "{text}"
            );
        }
        assert_ne!(english, german);
    }
    assert_eq!(
        english[4],
        "Haematocrit 3.4 %: with the other values about 34 % would be typical; check the decimal \
         point or the unit"
    );
    assert_eq!(
        german[4],
        "Hämatokrit 3,4 %: zu den übrigen Werten würde etwa 34 % passen; Komma oder Einheit prüfen"
    );
    assert!(english[1].starts_with("3 values are missing") && english[2].starts_with("a value is"));
    assert!(german[1].starts_with("3 Werte fehlen") && german[2].starts_with("ein Wert fehlt"));
    assert!(english[0].contains("(8 to 65 %)") && german[0].contains("(8 bis 65 %)"));
}
