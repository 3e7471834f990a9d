//! Which overrides hold.

use std::{fs, os::unix::fs::PermissionsExt};

use super::*;
use crate::{
    disposition::Outcome,
    schema,
    specimens::{self, Body},
};

const ONE: &str = "1111111111111111111111111111111111111111111111111111111111111111";
const TWO: &str = "2222222222222222222222222222222222222222222222222222222222222222";
const NOW: Duration = Duration::from_secs(1_900_000_000);
const REASON: OverrideReason = OverrideReason::ConfirmedByClinician;

/// Reviews under these fleet keys, a line each.
fn reviews(fleet: &[&str], tenant: &str) -> Reviews {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = directory.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path
    };
    let (fleet, pseudonyms) = (file("fleet", &fleet.join("\n")), file("pseudonyms", ONE));
    let identifiers = Identifiers::load(&fleet, &pseudonyms).unwrap();
    let config = config::Review {
        tenant: tenant.to_owned(),
        override_seconds: 3600,
    };
    Reviews::new(&identifiers, &config)
}

fn row(body: &Body) -> Box<Row> {
    let observed = schema::parse(&specimens::icu(), &body.bytes()).unwrap();
    observed.into_row()
}

fn open(reviews: &Reviews, body: &Body) -> String {
    let tag = reviews.tag(&row(body)).unwrap();
    let shown = [Code::OutsideExpected];
    reviews.open_at(NOW, "d1", tag, &shown).unwrap().token
}

fn confirm(
    reviews: &Reviews,
    later: u64,
    model: &str,
    body: &Body,
    token: &str,
) -> Result<Confirmed, Code> {
    let now = NOW + Duration::from_secs(later);
    reviews.confirm_at(now, model, &row(body), &Claim::new(token, REASON))
}

#[test]
fn the_same_input_may_be_overridden_until_the_token_expires() {
    let (mine, body) = (reviews(&[ONE], "a"), Body::icu());
    let token = open(&mine, &body);
    assert_eq!(token.len(), 100);
    for later in [0, 1, 3600] {
        assert!(confirm(&mine, later, "d1", &body, &token).is_ok());
    }
    // However its numbers and units are written, it is the same input.
    let spelt = body
        .clone()
        .with("temperature", r#"{"value": 98.6, "unit": "[degF]"}"#);
    let token = open(&mine, &spelt);
    let plain = body.with("temperature", "37");
    assert!(confirm(&mine, 0, "d1", &plain, &token).is_ok());
}

#[test]
fn what_does_not_hold_says_why() {
    let (mine, body) = (reviews(&[ONE], "a"), Body::icu());
    let token = open(&mine, &body);
    let refused = |result: Result<Confirmed, Code>| result.unwrap_err();
    assert_eq!(
        refused(confirm(&mine, 3601, "d1", &body, &token)),
        Code::ReviewTokenExpired
    );
    assert_eq!(
        refused(confirm(&mine, 0, "d2", &body, &token)),
        Code::ReviewModelChanged
    );
    let changed = body.clone().with("temperature", "38");
    assert_eq!(
        refused(confirm(&mine, 0, "d1", &changed, &token)),
        Code::ReviewInputChanged
    );
    let missing = body.clone().without("magnesium");
    assert_eq!(
        refused(confirm(&mine, 0, "d1", &missing, &token)),
        Code::ReviewInputChanged
    );
    // Another tenant's, and another fleet's.
    for other in [reviews(&[ONE], "b"), reviews(&[TWO], "a")] {
        assert_eq!(
            refused(confirm(&other, 0, "d1", &body, &token)),
            Code::ReviewTokenInvalid
        );
    }
}

#[test]
fn no_bit_of_a_token_may_change() {
    let (mine, body) = (reviews(&[ONE], "a"), Body::icu());
    let token = URL_SAFE_NO_PAD.decode(open(&mine, &body)).unwrap();
    for byte in 0..token.len() {
        let mut forged = token.clone();
        forged[byte] ^= 1 << (byte % 8);
        let forged = URL_SAFE_NO_PAD.encode(forged);
        assert_eq!(
            confirm(&mine, 0, "d1", &body, &forged).unwrap_err(),
            Code::ReviewTokenInvalid
        );
    }
    for garbage in ["", "x", "not base64url!", &"A".repeat(98), &"A".repeat(101)] {
        assert_eq!(
            confirm(&mine, 0, "d1", &body, garbage).unwrap_err(),
            Code::ReviewTokenInvalid
        );
    }
}

#[test]
fn a_token_outlives_the_rotation_of_the_fleet_key() {
    let body = Body::icu();
    let token = open(&reviews(&[ONE], "a"), &body);
    let rotated = reviews(&[TWO, ONE], "a");
    assert!(confirm(&rotated, 0, "d1", &body, &token).is_ok());
    // New tokens are made with the new key alone.
    let fresh = open(&rotated, &body);
    assert!(confirm(&reviews(&[TWO], "a"), 0, "d1", &body, &fresh).is_ok());
    assert!(confirm(&reviews(&[ONE], "a"), 0, "d1", &body, &fresh).is_err());
}

#[test]
fn a_repeat_is_recognised() {
    let (mine, body) = (reviews(&[ONE], "a"), Body::icu());
    let token = open(&mine, &body);
    let confirmed = confirm(&mine, 0, "d1", &body, &token).unwrap();
    assert_eq!(confirmed.reason(), REASON);
    assert!(!confirmed.is_repeat());
    // Not before it was answered, which it is not while it cannot be recorded.
    assert!(!confirm(&mine, 1, "d1", &body, &token).unwrap().is_repeat());
    confirmed.note_answered();
    assert!(confirm(&mine, 1, "d1", &body, &token).unwrap().is_repeat());
    // For another reason it is not the same override.
    let claim = Claim::new(&token, OverrideReason::ExplainedByCondition);
    let another = mine.confirm_at(NOW, "d1", &row(&body), &claim).unwrap();
    assert!(!another.is_repeat());
    let other = open(&mine, &body.clone().with("temperature", "38"));
    let other = confirm(&mine, 0, "d1", &body.with("temperature", "38"), &other).unwrap();
    assert!(!other.is_repeat());
}

#[test]
fn an_override_covers_what_its_review_showed() {
    let (mine, body) = (reviews(&[ONE], "a"), Body::icu());
    let token = open(&mine, &body);
    let confirmed = confirm(&mine, 0, "d1", &body, &token).unwrap();
    assert!(confirmed.covers(Code::OutsideExpected));
    assert!(!confirmed.covers(Code::Disagreement) && !confirmed.covers(Code::Forbidden));
    let reviews = Code::ALL.iter().copied();
    let mut reviews = reviews.filter(|code| code.outcome() == Outcome::Review);
    assert!(reviews.all(|code| CODES.contains(&code)));
}
