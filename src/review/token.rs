//! Review tokens: a MAC, so that a review can be overridden though nothing of it is kept.
//!
//! A token is `version | expiry | codes | model | input | MAC`, base64url. *Codes* are those that the
//! review showed, so that an override can say what was found since. *Model* is a tag of the bundle's
//! digest and *input* one of the model's name and every value, as the screens saw it. Both, and
//! the MAC over all of it and the tenant, are HMAC-SHA-256 under a key that is derived from the
//! fleet key for this purpose alone, so that every replica takes the tokens of every other. The
//! key does not change with the day, as fingerprints' does: a review opened before midnight may be
//! overridden after it.
//!
//! The tags are in the token so that each way of not holding has its own answer. They say nothing
//! to who has no key.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use aws_lc_rs::{
    constant_time::verify_slices_are_equal,
    digest::{SHA256, digest},
    hmac::{self, HMAC_SHA256},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

use super::{Claim, OverrideReason};
use crate::{
    audit::{Identifier, Identifiers},
    authz::{Action, Grant},
    bundle::LoadedModel,
    clock, config,
    disposition::Code,
    row::Row,
    schema::Observed,
};

const VERSION: u8 = 2;
const TAG: usize = 16;
const MAC: usize = 32;
/// What the MAC is over, besides the tenant: version, expiry, codes, model, input.
const SIGNED: usize = 1 + 8 + 2 + 2 * TAG;
/// Bytes of a token.
pub(super) const BYTES: usize = SIGNED + MAC;
/// Overrides remembered at most; beyond it a repeat is not recognised as one.
const MEMORY: usize = 65_536;

/// The codes of reviews, each with its bit in a token.
const CODES: [Code; 8] = [
    Code::OutsideExpected,
    Code::TooMuchMissing,
    Code::ImplausibleCombination,
    Code::Atypical,
    Code::CallerUnderReview,
    Code::Disagreement,
    Code::MemberFailed,
    Code::Unstable,
];

fn bits(codes: impl IntoIterator<Item = Code>) -> u16 {
    codes.into_iter().fold(0, |bits, code| {
        let place = CODES.iter().position(|c| *c == code);
        bits | place.map_or(0, |place| 1 << place)
    })
}

/// Overrides that were answered, with the reason that was given and when their token expires.
type Answered = Arc<Mutex<HashMap<(Identifier, OverrideReason), u64>>>;

/// A keyed hash of what was judged.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Tag([u8; TAG]);

impl fmt::Debug for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tag(…)")
    }
}

/// A token's bytes.
pub(super) struct Token([u8; BYTES]);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

impl Token {
    pub(super) fn of(bytes: [u8; BYTES]) -> Self {
        Self(bytes)
    }

    /// What stands for the token in records, where it must not be readable.
    fn id(&self) -> Identifier {
        let hash = digest(&SHA256, &self.0);
        hex::encode(hash.as_ref().get(..TAG).unwrap_or_default())
    }

    /// What the MAC is over, and the MAC.
    fn parts(&self) -> (&[u8], &[u8]) {
        self.0.split_at_checked(SIGNED).unwrap_or_default()
    }
}

/// A review that may be overridden, as an answer offers it.
#[derive(Debug)]
pub struct Opened {
    /// For the request that overrides.
    pub token: String,
    /// Until when, RFC 3339.
    pub expires: String,
    /// What stands for it in records.
    pub id: Identifier,
}

/// Somebody with the right to it says that this input is right; made only by
/// [`Reviews::confirm`].
pub struct Confirmed {
    id: Identifier,
    expires: u64,
    reason: OverrideReason,
    shown: u16,
    answered: Answered,
}

impl fmt::Debug for Confirmed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Confirmed").finish_non_exhaustive()
    }
}

impl Confirmed {
    /// What stands for the review in records.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Why.
    pub fn reason(&self) -> OverrideReason {
        self.reason
    }

    /// Whether the review showed this code to who overrode it.
    pub fn covers(&self, code: Code) -> bool {
        self.shown & bits([code]) != 0
    }

    /// Whether the same override, for the same reason, had been answered, as far as this replica
    /// remembers.
    pub fn is_repeat(&self) -> bool {
        let answered = self.answered.lock().unwrap_or_else(PoisonError::into_inner);
        answered.contains_key(&(self.id.clone(), self.reason))
    }

    /// Notes that it is answered, once that is on record: what is not has no repeat. Only the
    /// token's hash is kept, until the token expires.
    pub fn note_answered(&self) {
        let mut answered = self.answered.lock().unwrap_or_else(PoisonError::into_inner);
        if answered.len() >= MEMORY {
            let now = clock::since_epoch().as_secs();
            answered.retain(|_, expires| *expires > now);
        }
        if answered.len() < MEMORY {
            answered.insert((self.id.clone(), self.reason), self.expires);
        }
    }
}

/// Opens reviews, and says which overrides hold.
pub struct Reviews {
    /// The one in force makes tokens; the one before it, if any, still lets them hold.
    keys: Vec<hmac::Key>,
    tenant: String,
    lifetime: Duration,
    answered: Answered,
}

impl fmt::Debug for Reviews {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reviews").finish_non_exhaustive()
    }
}

impl Reviews {
    /// With keys derived from the fleet's.
    pub fn new(identifiers: &Identifiers, config: &config::Review) -> Self {
        Self {
            keys: identifiers
                .fleet_keys()
                .map(|fleet| hmac::sign(fleet, b"vitalgate review token"))
                .map(|derived| hmac::Key::new(HMAC_SHA256, derived.as_ref()))
                .collect(),
            tenant: config.tenant.clone(),
            lifetime: config.lifetime(),
            answered: Answered::default(),
        }
    }

    /// The tag of an input, by which a later request is known to be about the same.
    pub fn tag(&self, row: &Row) -> Option<Tag> {
        self.keys.first().map(|key| input_tag(key, row))
    }

    /// Opens a review of the input with this tag, which shows these codes.
    pub fn open(&self, model: &LoadedModel, input: Tag, shown: &[Code]) -> Option<Opened> {
        self.open_at(clock::since_epoch(), model.digest(), input, shown)
    }

    fn open_at(&self, now: Duration, model: &str, input: Tag, shown: &[Code]) -> Option<Opened> {
        let key = self.keys.first()?;
        // Whole seconds, upwards: a token of one second lasts at least that.
        let expires = (now + self.lifetime).as_secs().saturating_add(1);
        let mut token = Vec::with_capacity(BYTES);
        token.push(VERSION);
        token.extend_from_slice(&expires.to_be_bytes());
        token.extend_from_slice(&bits(shown.iter().copied()).to_be_bytes());
        token.extend_from_slice(&model_tag(key, model).0);
        token.extend_from_slice(&input.0);
        let mac = self.mac(key, &token);
        token.extend_from_slice(mac.as_ref());
        let token = Token::of(token.try_into().ok()?);
        Some(Opened {
            token: URL_SAFE_NO_PAD.encode(token.0),
            expires: clock::rfc3339_at(Duration::from_secs(expires)),
            id: token.id(),
        })
    }

    /// Whether this claim lets a prediction leave for this input. What it is about is compared in
    /// the order in which a clinician can mend it.
    ///
    /// # Errors
    /// `REVIEW_TOKEN_INVALID`, `REVIEW_TOKEN_EXPIRED`, `REVIEW_MODEL_CHANGED` or
    /// `REVIEW_INPUT_CHANGED`.
    pub fn confirm(
        &self,
        grant: &Grant,
        model: &LoadedModel,
        observed: &Observed,
        claim: &Claim,
    ) -> Result<Confirmed, Code> {
        if grant.action() != Action::OverrideReview || grant.model() != model.spec().name {
            return Err(Code::Forbidden);
        }
        self.confirm_at(clock::since_epoch(), model.digest(), observed.row(), claim)
    }

    fn confirm_at(
        &self,
        now: Duration,
        model: &str,
        row: &Row,
        claim: &Claim,
    ) -> Result<Confirmed, Code> {
        let token = claim.token.as_ref().ok_or(Code::ReviewTokenInvalid)?;
        let (signed, mac) = token.parts();
        let genuine =
            |key: &&hmac::Key| verify_slices_are_equal(self.mac(key, signed).as_ref(), mac).is_ok();
        let key = self.keys.iter().find(genuine);
        let key = key.ok_or(Code::ReviewTokenInvalid)?;
        let fields = Fields::of(signed).ok_or(Code::ReviewTokenInvalid)?;
        if fields.expires <= now.as_secs() {
            return Err(Code::ReviewTokenExpired);
        }
        if fields.model != model_tag(key, model) {
            return Err(Code::ReviewModelChanged);
        }
        if fields.input != input_tag(key, row) {
            return Err(Code::ReviewInputChanged);
        }
        Ok(Confirmed {
            id: token.id(),
            expires: fields.expires,
            reason: claim.reason,
            shown: fields.shown,
            answered: Arc::clone(&self.answered),
        })
    }

    fn mac(&self, key: &hmac::Key, signed: &[u8]) -> hmac::Tag {
        let mut context = hmac::Context::with_key(key);
        context.update(b"token\0");
        context.update(self.tenant.as_bytes());
        context.update(&[0]);
        context.update(signed);
        context.sign()
    }
}

/// A token's content.
struct Fields {
    expires: u64,
    shown: u16,
    model: Tag,
    input: Tag,
}

impl Fields {
    fn of(signed: &[u8]) -> Option<Self> {
        let (version, rest) = signed.split_first()?;
        let (expires, rest) = rest.split_first_chunk()?;
        let (shown, rest) = rest.split_first_chunk()?;
        let (model, rest) = rest.split_first_chunk()?;
        let input = rest.try_into().ok()?;
        (*version == VERSION).then_some(Self {
            expires: u64::from_be_bytes(*expires),
            shown: u16::from_be_bytes(*shown),
            model: Tag(*model),
            input: Tag(input),
        })
    }
}

fn model_tag(key: &hmac::Key, digest: &str) -> Tag {
    let mut context = hmac::Context::with_key(key);
    context.update(b"model\0");
    context.update(digest.as_bytes());
    tag(&context.sign())
}

fn input_tag(key: &hmac::Key, row: &Row) -> Tag {
    let mut context = hmac::Context::with_key(key);
    context.update(b"input\0");
    row.feed(|bytes| context.update(bytes));
    tag(&context.sign())
}

fn tag(mac: &hmac::Tag) -> Tag {
    let mut tag = [0; TAG];
    for (to, from) in tag.iter_mut().zip(mac.as_ref()) {
        *to = *from;
    }
    Tag(tag)
}

#[cfg(test)]
mod tests;
