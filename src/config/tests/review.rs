//! How long a review may be overridden.

use super::*;

#[test]
fn a_review_ends_within_a_day() {
    let config = parse(SAMPLE).unwrap();
    assert_eq!(config.review.tenant, "hospital.example");
    assert_eq!(config.review.lifetime(), Duration::from_hours(1));
    for wrong in ["0", "86401"] {
        let to = format!("override_seconds = {wrong}");
        let message = problem("override_seconds = 3600", &to);
        assert_eq!(message, "review: override_seconds must be 1 to 86400");
    }
    let message = problem("tenant = \"hospital.example\"", "tenant = \"two words\"");
    assert!(message.starts_with("review: tenant"), "{message}");
}

#[test]
fn the_section_may_be_left_out() {
    let start = SAMPLE.find("\n# Reviews and their override").unwrap();
    let end = SAMPLE.find("\n# Who may do what").unwrap();
    let config = parse(&format!("{}{}", &SAMPLE[..start], &SAMPLE[end..])).unwrap();
    assert_eq!(config.review, Review::default());
    assert_eq!(config.review.lifetime(), Duration::from_hours(1));
}
