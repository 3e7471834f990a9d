//! Documents that must not be a policy, and policies that must not be in force.

use std::{fs, sync::LazyLock};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use time::{Duration, OffsetDateTime, macros::datetime};

use super::*;
use crate::bundle::signing::SigningKey;

struct Keys {
    builder: SigningKey,
    safety: SigningKey,
    root: SigningKey,
}

static KEYS: LazyLock<Keys> = LazyLock::new(|| {
    let key = || {
        let (private, _) = SigningKey::generate_p256().unwrap();
        SigningKey::from_pkcs8_pem(private.as_bytes()).unwrap()
    };
    Keys {
        builder: key(),
        safety: key(),
        root: key(),
    }
});

fn document() -> Value {
    json!({
        "format": 1,
        "serial": 3,
        "issued": "2026-01-01T00:00:00Z",
        "expires": "2026-07-01T00:00:00Z",
        "on_expiry": "keep",
        "roles": {
            "builder": {"threshold": 1, "keys": [KEYS.builder.public_key_pem()]},
            "clinical-safety": {"threshold": 1, "keys": [KEYS.safety.public_key_pem()]},
        },
        "min_version": {"icu-mortality": 1},
        "revoked_keys": [],
        "revoked_digests": [],
    })
}

fn signed(document: &Value, keys: &[&SigningKey]) -> Vec<u8> {
    let mut file = document.to_string().into_bytes();
    for key in keys {
        file = Draft::read(&file).unwrap().sign(*key).unwrap().into_bytes();
    }
    file
}

fn root() -> PolicyKeys {
    pinned(&[&KEYS.root], 1).unwrap()
}

fn pinned(keys: &[&SigningKey], threshold: usize) -> Result<PolicyKeys, PolicyError> {
    let pem = |key: &&SigningKey| key.public_key_pem().as_bytes().to_vec();
    PolicyKeys::new(&keys.iter().map(pem).collect::<Vec<_>>(), threshold)
}

/// The document after an edit, refused for this reason.
#[track_caller]
fn refused(words: &str, edit: impl FnOnce(&mut Value)) {
    let mut edited = document();
    edit(&mut edited);
    let error = Terms::parse(edited.to_string().as_bytes()).unwrap_err();
    assert!(error.to_string().contains(words), "{words:?}: {error}");
}

#[test]
fn a_policy_that_contradicts_itself_is_refused() {
    let terms = Terms::parse(document().to_string().as_bytes()).unwrap();
    assert_eq!((terms.serial(), terms.roles().len()), (3, 2));
    assert_eq!(terms.min_version("icu-mortality"), Some(1));
    assert_eq!(terms.min_version("other"), None);

    let builder = KEYS.builder.public_key_pem();
    refused("format 2", |d| d["format"] = json!(2));
    refused("serial: must be above 0", |d| d["serial"] = json!(0));
    refused("expires: is not after issued", |d| {
        d["expires"] = d["issued"].clone();
    });
    refused("issued: \"yesterday\" is not RFC 3339", |d| {
        d["issued"] = json!("yesterday");
    });
    refused("there is none", |d| d["roles"] = json!({}));
    refused("builder: the threshold is 0, of 1", |d| {
        d["roles"]["builder"]["threshold"] = json!(0);
    });
    refused("builder: the threshold is 2, of 1", |d| {
        d["roles"]["builder"]["threshold"] = json!(2);
    });
    refused("builder: the threshold is 1, of 0", |d| {
        d["roles"]["builder"]["keys"] = json!([]);
    });
    refused("is in the roles builder and clinical-safety", |d| {
        d["roles"]["clinical-safety"]["keys"] = json!([builder]);
    });
    // The same key, whatever surrounds it.
    refused("is listed twice", |d| {
        d["roles"]["builder"]["keys"] = json!([builder, format!("a comment\r\n{builder}")]);
    });
    refused("role builder", |d| {
        d["roles"]["builder"]["keys"] = json!(["no key"]);
    });
    refused("roles: \"a b\"", |d| {
        d["roles"] = json!({"a b": d["roles"]["builder"]});
    });
    refused("min_version: \"../x\"", |d| {
        d["min_version"] = json!({"../x": 1});
    });
    refused("revoked_keys: \"ABCD\"", |d| {
        d["revoked_keys"] = json!(["ABCD"]);
    });
    refused("revoked_digests: \"sha256:", |d| {
        d["revoked_digests"] = json!([format!("sha256:{}", "a".repeat(64))]);
    });
    refused("unknown field", |d| d["max_version"] = json!({}));
    refused("unknown variant", |d| d["on_expiry"] = json!("ignore"));
    for field in document().as_object().unwrap().keys() {
        refused(&format!("missing field `{field}`"), |d| {
            d.as_object_mut().unwrap().remove(field);
        });
    }
    let twice = document().to_string().replacen('{', "{\"serial\": 9, ", 1);
    let error = Terms::parse(twice.as_bytes()).unwrap_err();
    assert!(error.to_string().contains("appears twice"), "{error}");
}

/// Another spelling of a key would be another id for one holder.
#[test]
fn a_compressed_point_is_no_policy_key() {
    let der = PublicKey::from_pem(KEYS.builder.public_key_pem().as_bytes()).unwrap();
    assert!(der.is_canonical());
    let text: String = KEYS
        .builder
        .public_key_pem()
        .lines()
        .filter(|l| !l.starts_with('-'))
        .collect();
    let spki = STANDARD.decode(text).unwrap();
    // SEQUENCE { AlgorithmIdentifier, BIT STRING { 02|03, X } }
    let sign = 2 + (spki[90] & 1);
    let compressed = [
        &[0x30, 0x39][..],
        &spki[2..23],
        &[0x03, 0x22, 0x00, sign],
        &spki[27..59],
    ]
    .concat();
    let pem = format!(
        "-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n",
        STANDARD.encode(compressed)
    );
    refused("role builder", |d| {
        d["roles"]["builder"]["keys"] = json!([pem]);
    });
    assert!(PolicyKeys::new(&[pem.into_bytes()], 1).is_err());
}

#[test]
fn only_enough_pinned_keys_make_a_policy() {
    let Keys {
        builder,
        safety,
        root: own,
    } = &*KEYS;
    let by = |keys: &[&SigningKey]| signed(&document(), keys);
    let policy = Policy::verify(&by(&[own]), &root()).unwrap();
    assert_eq!(policy.terms().serial(), 3);
    assert!(policy.signers().contains(own.key_id()));

    let unsigned = Policy::verify(document().to_string().as_bytes(), &root()).unwrap_err();
    assert!(matches!(unsigned, PolicyError::NotSigned(_)), "{unsigned}");
    let others = Policy::verify(&by(&[builder, safety]), &root()).unwrap_err();
    assert!(matches!(
        others,
        PolicyError::Unsigned {
            found: 0,
            threshold: 1
        }
    ));

    let two = || pinned(&[own, safety], 2).unwrap();
    assert!(Policy::verify(&by(&[own, safety]), &two()).is_ok());
    // One key, however often it signed, counts once: ECDSA signatures differ each time.
    let once = by(&[own]);
    let mut envelope: Value = serde_json::from_slice(&once).unwrap();
    let again: Value = serde_json::from_slice(&by(&[own])).unwrap();
    let second = again["signatures"][0].clone();
    assert_ne!(second, envelope["signatures"][0]);
    envelope["signatures"].as_array_mut().unwrap().push(second);
    let error = Policy::verify(envelope.to_string().as_bytes(), &two()).unwrap_err();
    assert!(matches!(
        error,
        PolicyError::Unsigned {
            found: 1,
            threshold: 2
        }
    ));

    // Of another type: an OpenSSF statement's signature is none over a policy, nor the reverse.
    let mut other: Value = serde_json::from_slice(&once).unwrap();
    other["payloadType"] = json!("application/vnd.in-toto+json");
    let error = Policy::verify(other.to_string().as_bytes(), &root()).unwrap_err();
    assert!(matches!(error, PolicyError::NotSigned(_)));

    for (keys, threshold) in [(vec![own], 0), (vec![own], 2), (vec![], 0)] {
        assert!(pinned(&keys, threshold).is_err());
    }
    assert!(matches!(
        pinned(&[own, own], 2).unwrap_err(),
        PolicyError::KeyTwice { .. }
    ));
}

#[test]
fn every_flipped_bit_of_a_policy_is_refused_or_means_nothing() {
    let file = signed(&document(), &[&KEYS.root]);
    let digest = Policy::verify(&file, &root()).unwrap().digest().to_owned();
    let mut without_effect = 0;
    for position in 0..file.len() {
        for bit in 0..8 {
            let mut flipped = file.clone();
            flipped[position] ^= 1 << bit;
            if let Ok(policy) = Policy::verify(&flipped, &root()) {
                assert_eq!(policy.digest(), digest, "bit {bit} of byte {position}");
                without_effect += 1;
            }
        }
    }
    // The key id beside a signature, and white space.
    assert!(without_effect > 0);
    for length in 0..file.len() - 2 {
        assert!(Policy::verify(&file[..length], &root()).is_err());
    }
}

#[test]
fn serials_never_go_back() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("trust-state.json");
    let store = SerialStore::at(&path);
    let enforce = |edit: &dyn Fn(&mut Value), min_serial| {
        let mut document = document();
        edit(&mut document);
        Policy::verify(&signed(&document, &[&KEYS.root]), &root())
            .unwrap()
            .enforce(min_serial, Some(&store))
    };
    let serial = |serial: u64| move |d: &mut Value| d["serial"] = json!(serial);
    assert_eq!(highest_seen(&path).unwrap(), None);
    enforce(&serial(3), 1).unwrap();
    enforce(&serial(3), 1).unwrap();
    assert_eq!(highest_seen(&path).unwrap(), Some(3));
    enforce(&serial(7), 1).unwrap();
    let older = enforce(&serial(6), 1).unwrap_err();
    assert!(matches!(
        older,
        PolicyError::OlderSerial {
            serial: 6,
            highest: 7
        }
    ));
    let other = |d: &mut Value| {
        d["serial"] = json!(7);
        d["min_version"] = json!({});
    };
    assert!(matches!(
        enforce(&other, 1).unwrap_err(),
        PolicyError::SerialReused { serial: 7 }
    ));
    assert_eq!(highest_seen(&path).unwrap(), Some(7));

    // Without the file, the configuration is what is left.
    fs::remove_file(&path).unwrap();
    let below = enforce(&serial(6), 7).unwrap_err();
    assert!(matches!(
        below,
        PolicyError::BelowMinSerial {
            serial: 6,
            min_serial: 7
        }
    ));
    assert!(!path.exists());
    enforce(&serial(7), 7).unwrap();

    for garbage in [
        "",
        "7",
        "{}",
        "{\"format\": 1, \"serial\": 7}",
        "{\"format\": 2, \"serial\": 1, \"policy\": \"\"}",
        "{\"format\": 1, \"serial\": 0, \"policy\": \"\"}",
        "{\"format\": 1, \"serial\": 1, \"serial\": 0, \"policy\": \"\"}",
    ] {
        fs::write(&path, garbage).unwrap();
        let error = enforce(&serial(9), 1).unwrap_err();
        assert!(
            matches!(error, PolicyError::State { .. }),
            "{garbage}: {error}"
        );
        assert!(!error.is_environment());
        assert_eq!(
            fs::read_to_string(&path).unwrap(),
            garbage,
            "left as it was found"
        );
    }
    let nowhere = SerialStore::at(&directory.path().join("no/such/file"));
    let policy = Policy::verify(&signed(&document(), &[&KEYS.root]), &root()).unwrap();
    assert!(
        policy
            .enforce(1, Some(&nowhere))
            .unwrap_err()
            .is_environment()
    );
}

/// Servers that start at the same moment must not overtake each other.
#[test]
fn the_highest_serial_wins_a_race() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state");
    std::thread::scope(|scope| {
        for serial in 1..=16 {
            let path = &path;
            scope.spawn(move || {
                let outcome = SerialStore::at(path).advance(serial, "policy");
                assert!(matches!(
                    outcome,
                    Ok(()) | Err(PolicyError::OlderSerial { .. })
                ));
            });
        }
    });
    assert_eq!(highest_seen(&path).unwrap(), Some(16));
}

#[test]
fn signing_again_replaces_and_adds() {
    let Keys {
        safety, root: own, ..
    } = &*KEYS;
    let draft = Draft::read(&signed(&document(), &[own, safety, own])).unwrap();
    let signers = draft.claimed_signers().unwrap();
    assert_eq!(signers, [safety.key_id(), own.key_id()]);
    assert_eq!(draft.payload(), document().to_string().as_bytes());
}

#[test]
fn notice_is_given_at_30_7_and_1_days() {
    let expires = datetime!(2026-07-01 00:00 UTC);
    let at = |left: Duration| Remaining::at(expires - left, expires);
    for (left, notice, next) in [
        (Duration::days(31), Notice::Fine, Some(Duration::days(1))),
        (Duration::days(30), Notice::Month, Some(Duration::days(23))),
        (Duration::days(7), Notice::Week, Some(Duration::days(6))),
        (Duration::days(1), Notice::Day, Some(Duration::days(1))),
        (
            Duration::seconds(1),
            Notice::Day,
            Some(Duration::seconds(1)),
        ),
        (Duration::ZERO, Notice::Expired, None),
        (Duration::days(-1), Notice::Expired, None),
    ] {
        let found = at(left);
        assert_eq!((found.notice, found.until_next), (notice, next), "{left}");
    }
    // To sleep until the next step always ends in it.
    let mut now: OffsetDateTime = expires - Duration::days(90);
    let mut told = vec![Notice::Fine];
    while let Some(next) = Remaining::at(now, expires).until_next {
        now += next;
        told.push(Remaining::at(now, expires).notice);
    }
    assert_eq!(
        told,
        [
            Notice::Fine,
            Notice::Month,
            Notice::Week,
            Notice::Day,
            Notice::Expired
        ]
    );
}
