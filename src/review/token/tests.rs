//! Which overrides hold.

use std::{fs, os::unix::fs::PermissionsExt};

use super::*;
use crate::{
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
    reviews.open_at(NOW, "d1", tag).unwrap().token
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
    assert_eq!(token.len(), 98);
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
    for garbage in ["", "x", "not base64url!", &"A".repeat(97), &"A".repeat(99)] {
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
    assert!(!mine.answered(&confirmed));
    assert!(mine.answered(&confirm(&mine, 1, "d1", &body, &token).unwrap()));
    let other = open(&mine, &body.clone().with("temperature", "38"));
    let other = confirm(&mine, 0, "d1", &body.with("temperature", "38"), &other).unwrap();
    assert!(!mine.answered(&other));
}
