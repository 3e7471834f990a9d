//! Checkpoints: C2SP tlog-checkpoint bodies in C2SP signed notes.
//!
//! ```text
//! hospital.example/vitalgate          the log's origin, and the name of its key
//! 1042                                records covered
//! CsUYapGGPo4dkMgIAUqom/Xajj7h2f…     root of their Merkle tree, base64
//!
//! — hospital.example/vitalgate Az3grl…
//! ```
//!
//! The signature is over the text up to and with the newline before the empty line. Notes in a
//! file follow one another with an empty line between them.

use base64::{Engine, engine::general_purpose::STANDARD};

use super::{
    chain::{Hash, sha256},
    keys::{PublicKey, SigningKey},
};

/// Begins a signature line: an em dash and a space.
const SIGNATURE: &str = "\u{2014} ";
/// The signature type of Ed25519 in a key id (C2SP signed-note).
const ED25519: u8 = 1;

/// What a checkpoint says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Which log.
    pub origin: String,
    /// How many records it covers.
    pub size: u64,
    /// The root of their Merkle tree.
    pub root: Hash,
}

impl Checkpoint {
    fn text(&self) -> String {
        let Self { origin, size, root } = self;
        format!("{origin}\n{size}\n{}\n", STANDARD.encode(root))
    }

    /// The checkpoint as a signed note, which ends in a newline.
    pub fn sign(&self, key: &SigningKey) -> Option<String> {
        let text = self.text();
        let signature = key.sign(text.as_bytes())?;
        let id = key_id(&self.origin, key.public());
        let encoded = STANDARD.encode([&id[..], &signature].concat());
        Some(format!("{text}\n{SIGNATURE}{} {encoded}\n", self.origin))
    }

    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.strip_suffix('\n')?.split('\n');
        let (origin, size, root) = (lines.next()?, lines.next()?, lines.next()?);
        let number: u64 = size.parse().ok()?;
        // One number, one text: no sign, no leading zero.
        if origin.is_empty() || number.to_string() != size {
            return None;
        }
        Some(Self {
            origin: origin.to_owned(),
            size: number,
            root: STANDARD.decode(root).ok()?.try_into().ok()?,
        })
    }
}

/// Names a key for those who hold several: the first four bytes of a hash over the key's name,
/// the signature type and the key.
fn key_id(name: &str, key: &PublicKey) -> [u8; 4] {
    let input = [name.as_bytes(), b"\n", &[ED25519], key.bytes()].concat();
    let [a, b, c, d, ..] = sha256(&input);
    [a, b, c, d]
}

/// A signed note, unverified.
#[derive(Clone, Debug)]
pub struct Note {
    text: String,
    signatures: Vec<(String, Vec<u8>)>,
    /// What it claims.
    pub checkpoint: Checkpoint,
}

/// Why a note does not vouch for what it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoteError {
    /// None of its signatures is by a key of the verifier.
    OtherKey,
    /// A signature says it is by a key of the verifier, and is not.
    BadSignature,
}

impl Note {
    /// Reads one note; nothing when it is not a checkpoint in a signed note.
    pub fn parse(note: &str) -> Option<Self> {
        let (text, signed) = note.split_once("\n\n")?;
        let text = format!("{text}\n");
        let signatures = signed
            .strip_suffix('\n')?
            .split('\n')
            .map(|line| {
                let (name, encoded) = line.strip_prefix(SIGNATURE)?.split_once(' ')?;
                Some((name.to_owned(), STANDARD.decode(encoded).ok()?))
            })
            .collect::<Option<Vec<_>>>()?;
        Some(Self {
            checkpoint: Checkpoint::parse(&text)?,
            text,
            signatures,
        })
    }

    /// Whether one of the verifier's keys signed it. Signatures by other keys say nothing.
    pub fn verify(&self, keys: &[PublicKey]) -> Result<&Checkpoint, NoteError> {
        let mut failed = NoteError::OtherKey;
        for (name, bytes) in &self.signatures {
            let Some((id, signature)) = bytes.split_first_chunk::<4>() else {
                continue;
            };
            let own = *name == self.checkpoint.origin;
            for key in keys.iter().filter(|key| own && key_id(name, key) == *id) {
                if key.verifies(self.text.as_bytes(), signature) {
                    return Ok(&self.checkpoint);
                }
                failed = NoteError::BadSignature;
            }
        }
        Err(failed)
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::*;

    fn key() -> SigningKey {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::set_permissions(file.path(), fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(file.path(), SigningKey::generate().unwrap().0.as_bytes()).unwrap();
        SigningKey::load(file.path()).unwrap()
    }

    #[test]
    fn a_note_is_what_it_was_signed_as() {
        let (mine, other) = (key(), key());
        let keys = [mine.public().clone()];
        let checkpoint = Checkpoint {
            origin: "hospital.example/log".to_owned(),
            size: 1042,
            root: [7; 32],
        };
        let signed = checkpoint.sign(&mine).unwrap();
        let verify = |text: &str| Note::parse(text).unwrap().verify(&keys).cloned();
        assert_eq!(verify(&signed), Ok(checkpoint.clone()));
        assert_eq!(
            verify(&signed.replace("1042", "1041")),
            Err(NoteError::BadSignature)
        );
        let foreign = checkpoint.sign(&other).unwrap();
        assert_eq!(verify(&foreign), Err(NoteError::OtherKey));
        // A witness's signature beside it does no harm.
        let witness = foreign.lines().last().unwrap();
        assert_eq!(verify(&format!("{signed}{witness}\n")), Ok(checkpoint));
        for broken in [
            signed.replace("1042", "01042"),
            signed.replace("1042", "-1"),
            signed.replace("\n\n", "\n"),
            signed.trim_end().to_owned(),
            signed.replace('\u{2014}', "-"),
        ] {
            assert!(Note::parse(&broken).is_none(), "{broken}");
        }
    }

    /// The example of the C2SP tlog-checkpoint and signed-note specifications has this shape;
    /// the key id is recomputed here from its definition.
    #[test]
    fn the_key_id_is_the_specifications() {
        let key = key();
        let note = Checkpoint {
            origin: "example.com/log".to_owned(),
            size: 0,
            root: sha256(b""),
        }
        .sign(&key)
        .unwrap();
        let [text, signatures] = note.split("\n\n").collect::<Vec<_>>()[..] else {
            panic!("{note}")
        };
        assert_eq!(
            text,
            "example.com/log\n0\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="
        );
        let encoded = signatures.trim_end().rsplit(' ').next().unwrap();
        let bytes = STANDARD.decode(encoded).unwrap();
        let mut input = b"example.com/log\n\x01".to_vec();
        input.extend_from_slice(key.public().bytes());
        assert_eq!(bytes[..4], sha256(&input)[..4]);
        assert_eq!(bytes.len(), 4 + 64);
    }
}
