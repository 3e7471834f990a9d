//! How the audit log is written, and what it is called.

use super::*;

#[test]
fn the_mode_is_one_of_two() {
    let mode = |text: &str| {
        parse(&sample_with("mode = \"written\"", text))
            .unwrap()
            .audit
            .mode
    };
    assert_eq!(mode("mode = \"synced\""), AuditMode::Synced);
    assert_eq!(mode("mode = \"written\""), AuditMode::Written);
}

#[test]
fn the_log_has_a_name_that_a_signed_note_can_carry() {
    let origin = "origin = \"hospital.example/vitalgate-1\"";
    for wrong in ["", "two words", "a+b", "a\\nb", "h\u{e4}user"] {
        let message = problem(origin, &format!("origin = \"{wrong}\""));
        assert!(message.starts_with("audit: origin should be"), "{message}");
    }
}

#[test]
fn segments_are_not_tiny_and_paths_are_anchored() {
    let message = problem("segment_bytes = 268435456", "segment_bytes = 4095");
    assert_eq!(message, "audit: segment_bytes must be at least 4096");
    let config = parse(&sample_with("segment_bytes = 268435456\n", "")).unwrap();
    assert_eq!(config.audit.segment_bytes, 256 << 20);
    assert_eq!(config.audit.key, Path::new("/etc/vitalgate/keys/audit.key"));
    assert_eq!(
        config.keys.fleet,
        Path::new("/etc/vitalgate/keys/fleet.key")
    );
    let pseudonym = Path::new("/etc/vitalgate/keys/pseudonym.key");
    assert_eq!(config.keys.pseudonym, pseudonym);
}
