//! A key in a PKCS#11 token: a hardware module, a smart card or `SoftHSM`.
//!
//! The private half stays where it is. We send a digest and get a bare ECDSA signature back; the
//! public half comes from the token too, so whoever calls us cannot name another. What is made is
//! verified under that public half before it leaves ([`vitalgate::bundle::signing::sign`]).

use std::path::{Path, PathBuf};

use cryptoki::{
    context::{CInitializeArgs, CInitializeFlags, Pkcs11},
    error::{Error, RvError},
    mechanism::Mechanism,
    object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle},
    session::{Session, UserType},
    slot::{Slot, TokenInfo},
    types::AuthPin,
};
use vitalgate::bundle::signing::{Curve, Signer, SigningError};

use super::{Failure, read_secret};
use vitalgate::error_chain::printable;

/// More than any PIN.
const MAX_PIN: u64 = 256;

/// Which key of which token.
#[derive(Debug)]
pub(crate) struct KeyPlace<'a> {
    /// The token's library.
    pub(crate) module: &'a Path,
    /// The token's label.
    pub(crate) token: &'a str,
    /// The key's label.
    pub(crate) key: &'a str,
    /// Where the user's PIN lies.
    pub(crate) pin_file: Option<&'a Path>,
}

/// Why a token's key cannot be used. Never says anything of the PIN.
#[derive(Debug, thiserror::Error)]
enum TokenError {
    #[error("{path}: the PKCS#11 module cannot be loaded: {reason}")]
    Module { path: PathBuf, reason: String },
    #[error("no token is labelled {label:?}; the module has {found}")]
    NoToken { label: String, found: String },
    #[error("{count} tokens are labelled {label:?}; give one of them another label")]
    TokenAmbiguous { label: String, count: usize },
    #[error("token {0:?} needs a PIN; give its file with --pin-file")]
    NoPin(String),
    #[error("{0}: not a PIN: it must be one line of text")]
    PinForm(PathBuf),
    #[error(
        "the PIN is wrong; a few wrong ones in a row lock the token{}",
        if *.last_try { ", and the next one will" } else { "" }
    )]
    WrongPin { last_try: bool },
    #[error("the token is locked after too many wrong PINs; its security officer must unlock it")]
    PinLocked,
    #[error("token {token:?} holds no private key labelled {label:?}")]
    NoKey { token: String, label: String },
    #[error(
        "token {token:?} holds {count} keys labelled {label:?}; give one of them another label"
    )]
    KeyAmbiguous {
        token: String,
        label: String,
        count: usize,
    },
    #[error("key {label:?} is not an elliptic-curve key; a P-256, P-384 or P-521 key is needed")]
    NotEllipticCurve { label: String },
    #[error("key {label:?} is not on P-256, P-384 or P-521")]
    UnsupportedCurve { label: String },
    #[error("key {label:?}: its public half is not in the token")]
    NoPublicHalf { label: String },
    #[error("key {label:?} asks for the PIN at each signature, which is not supported")]
    PinEachTime { label: String },
    #[error("key {label:?} exists already in token {token:?}; a key is never overwritten")]
    KeyExists { token: String, label: String },
    #[error("the token said: {0}")]
    Token(String),
    #[error("{0}")]
    Signing(#[from] SigningError),
}

impl From<Error> for TokenError {
    fn from(error: Error) -> Self {
        Self::Token(printable(&error.to_string()))
    }
}

impl From<TokenError> for Failure {
    fn from(error: TokenError) -> Self {
        Self::environment(error)
    }
}

/// A session with a token, its user logged in; ends with the value.
struct LoggedIn {
    context: Pkcs11,
    session: Option<Session>,
}

impl LoggedIn {
    fn open(place: &KeyPlace<'_>) -> Result<Self, Failure> {
        let pin = place.pin_file.map(read_pin).transpose()?;
        Ok(Self::with_pin(place, pin.as_ref())?)
    }

    fn with_pin(place: &KeyPlace<'_>, pin: Option<&AuthPin>) -> Result<Self, TokenError> {
        let context = load(place.module)?;
        let mut opened = Self {
            context,
            session: None,
        };
        let slot = find_token(&opened.context, place.token)?;
        let about = opened.context.get_token_info(slot)?;
        if about.user_pin_locked() {
            return Err(TokenError::PinLocked);
        }
        if pin.is_none() && about.login_required() && !about.protected_authentication_path() {
            return Err(TokenError::NoPin(place.token.to_owned()));
        }
        let session = opened.context.open_rw_session(slot)?;
        if about.login_required() {
            let now = || opened.context.get_token_info(slot);
            session
                .login(UserType::User, pin)
                .map_err(|error| not_logged_in(error, now().ok().as_ref()))?;
        }
        opened.session = Some(session);
        Ok(opened)
    }

    fn session(&self) -> Result<&Session, TokenError> {
        let closed = || TokenError::Token("the session is closed".to_owned());
        self.session.as_ref().ok_or_else(closed)
    }

    fn find(&self, class: ObjectClass, label: &str) -> Result<Vec<ObjectHandle>, TokenError> {
        let wanted = [
            Attribute::Class(class),
            Attribute::Label(label.as_bytes().to_vec()),
        ];
        Ok(self.session()?.find_objects(&wanted)?)
    }
}

impl Drop for LoggedIn {
    /// The session before the module, or the module is left with what it cannot close.
    fn drop(&mut self) {
        drop(self.session.take());
        drop(self.context.clone().finalize());
    }
}

/// A private key in a token.
pub(crate) struct TokenKey {
    token: LoggedIn,
    handle: ObjectHandle,
    curve: Curve,
    public_key_pem: String,
}

impl TokenKey {
    /// Logs in and finds the key.
    pub(crate) fn open(place: &KeyPlace<'_>) -> Result<Self, Failure> {
        Ok(Self::find(LoggedIn::open(place)?, place)?)
    }

    /// Makes a key pair that cannot leave the token, on `curve`.
    pub(crate) fn generate(place: &KeyPlace<'_>, curve: Curve) -> Result<Self, Failure> {
        Ok(Self::make(LoggedIn::open(place)?, place, curve)?)
    }

    fn find(token: LoggedIn, place: &KeyPlace<'_>) -> Result<Self, TokenError> {
        let label = || place.key.to_owned();
        let handle = match token.find(ObjectClass::PRIVATE_KEY, place.key)?.as_slice() {
            [one] => *one,
            [] => {
                return Err(TokenError::NoKey {
                    token: place.token.to_owned(),
                    label: label(),
                });
            }
            several => {
                return Err(TokenError::KeyAmbiguous {
                    token: place.token.to_owned(),
                    label: label(),
                    count: several.len(),
                });
            }
        };
        let session = token.session()?;
        let asked = [
            AttributeType::KeyType,
            AttributeType::EcParams,
            AttributeType::Id,
            AttributeType::AlwaysAuthenticate,
        ];
        let (mut kind, mut parameters, mut id, mut each_time) = (None, None, None, false);
        for attribute in session.get_attributes(handle, &asked)? {
            if let Attribute::KeyType(found) = attribute {
                kind = Some(found);
            } else if let Attribute::EcParams(found) = attribute {
                parameters = Some(found);
            } else if let Attribute::Id(found) = attribute {
                id = Some(found);
            } else if let Attribute::AlwaysAuthenticate(found) = attribute {
                each_time = found;
            }
        }
        if kind != Some(KeyType::EC) {
            return Err(TokenError::NotEllipticCurve { label: label() });
        }
        if each_time {
            return Err(TokenError::PinEachTime { label: label() });
        }
        let curve = parameters
            .and_then(|der| Curve::from_parameters(&der))
            .ok_or_else(|| TokenError::UnsupportedCurve { label: label() })?;
        let point = public_point(session, handle, id)?
            .ok_or_else(|| TokenError::NoPublicHalf { label: label() })?;
        let public_key_pem = curve.public_key_pem(&point)?;
        Ok(Self {
            token,
            handle,
            curve,
            public_key_pem,
        })
    }

    fn make(token: LoggedIn, place: &KeyPlace<'_>, curve: Curve) -> Result<Self, TokenError> {
        for class in [ObjectClass::PRIVATE_KEY, ObjectClass::PUBLIC_KEY] {
            if !token.find(class, place.key)?.is_empty() {
                return Err(TokenError::KeyExists {
                    token: place.token.to_owned(),
                    label: place.key.to_owned(),
                });
            }
        }
        let session = token.session()?;
        // One id on both halves, so that the public one is found by it.
        let id = session.generate_random_vec(16)?;
        let named = [
            Attribute::Token(true),
            Attribute::Label(place.key.as_bytes().to_vec()),
            Attribute::Id(id),
        ];
        let public = [
            &named[..],
            &[
                Attribute::Verify(true),
                Attribute::EcParams(curve.parameters().to_vec()),
            ],
        ]
        .concat();
        let private = [
            &named[..],
            &[
                Attribute::Private(true),
                Attribute::Sensitive(true),
                Attribute::Extractable(false),
                Attribute::Sign(true),
            ],
        ]
        .concat();
        session.generate_key_pair(&Mechanism::EccKeyPairGen, &public, &private)?;
        Self::find(token, place)
    }
}

impl Signer for TokenKey {
    fn public_key_pem(&self) -> &str {
        &self.public_key_pem
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SigningError> {
        let failed = |error: &dyn std::error::Error| SigningError::Signer {
            reason: printable(&error.to_string()),
        };
        let session = self.token.session().map_err(|error| failed(&error))?;
        let digest = self.curve.digest(message);
        let bare = session
            .sign(&Mechanism::Ecdsa, self.handle, &digest)
            .map_err(|error| failed(&error))?;
        self.curve.der_signature(&bare)
    }
}

fn not_logged_in(error: Error, about: Option<&TokenInfo>) -> TokenError {
    use RvError::{PinIncorrect, PinInvalid, PinLenRange, PinLocked};
    if matches!(error, Error::Pkcs11(PinLocked, _)) {
        TokenError::PinLocked
    } else if matches!(
        error,
        Error::Pkcs11(PinIncorrect | PinInvalid | PinLenRange, _)
    ) {
        TokenError::WrongPin {
            last_try: about.is_some_and(TokenInfo::user_pin_final_try),
        }
    } else {
        error.into()
    }
}

fn load(module: &Path) -> Result<Pkcs11, TokenError> {
    let failed = |error: Error| TokenError::Module {
        path: module.to_owned(),
        reason: printable(&error.to_string()),
    };
    let context = Pkcs11::new(module).map_err(failed)?;
    context
        .initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK))
        .map_err(failed)?;
    Ok(context)
}

fn find_token(context: &Pkcs11, label: &str) -> Result<Slot, TokenError> {
    let mut labels = Vec::new();
    for slot in context.get_slots_with_initialized_token()? {
        labels.push((slot, context.get_token_info(slot)?.label().to_owned()));
    }
    let matching: Vec<_> = labels.iter().filter(|(_, name)| name == label).collect();
    match matching.as_slice() {
        [(slot, _)] => Ok(*slot),
        [] => {
            let names: Vec<_> = labels.iter().map(|(_, name)| format!("{name:?}")).collect();
            Err(TokenError::NoToken {
                label: label.to_owned(),
                found: if names.is_empty() {
                    "none".to_owned()
                } else {
                    names.join(", ")
                },
            })
        }
        several => Err(TokenError::TokenAmbiguous {
            label: label.to_owned(),
            count: several.len(),
        }),
    }
}

/// The point of the public key with the private key's id; some tokens show it on the private key
/// as well.
fn public_point(
    session: &Session,
    private: ObjectHandle,
    id: Option<Vec<u8>>,
) -> Result<Option<Vec<u8>>, TokenError> {
    let mut places = vec![private];
    if let Some(id) = id.filter(|id| !id.is_empty()) {
        let wanted = [
            Attribute::Class(ObjectClass::PUBLIC_KEY),
            Attribute::KeyType(KeyType::EC),
            Attribute::Id(id),
        ];
        places.extend(session.find_objects(&wanted)?);
    }
    for place in places {
        // A token may call the attribute unknown where it has none.
        let found = session.get_attributes(place, &[AttributeType::EcPoint]);
        if let Ok([Attribute::EcPoint(point)]) = found.as_deref()
            && !point.is_empty()
        {
            return Ok(Some(point.clone()));
        }
    }
    Ok(None)
}

fn read_pin(path: &Path) -> Result<AuthPin, Failure> {
    let bytes = read_secret(path, "PIN", MAX_PIN)?;
    let form = || Failure::from(TokenError::PinForm(path.to_owned()));
    let text = std::str::from_utf8(&bytes).map_err(|_| form())?;
    let text = text.strip_suffix('\n').unwrap_or(text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    if text.is_empty() || text.contains(char::is_control) {
        return Err(form());
    }
    // The copy is wiped by its type, the original by `Zeroizing`.
    Ok(AuthPin::new(Box::from(text)))
}

/// As `--curve` names them.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub(crate) enum CurveArgument {
    /// secp256r1.
    #[value(name = "P-256")]
    P256,
    /// secp384r1.
    #[value(name = "P-384")]
    P384,
    /// secp521r1.
    #[value(name = "P-521")]
    P521,
}

impl From<CurveArgument> for Curve {
    fn from(argument: CurveArgument) -> Self {
        match argument {
            CurveArgument::P256 => Self::P256,
            CurveArgument::P384 => Self::P384,
            CurveArgument::P521 => Self::P521,
        }
    }
}
