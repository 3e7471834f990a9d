//! What may come of a request, and the stable codes that say why.
//!
//! A code is public: clients branch on it, `docs/errors.md` is generated from this table, and
//! audit records carry it. None is ever renamed or reused. No code, pointer or message held
//! here contains a patient's value, except where a type says [`Phi`].

use std::{sync::Arc, time::Duration};

use crate::{audit::Subject, bundle::model::ModelSpec, phi::Phi};

/// The four outcomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Every screen passed; the answer carries a prediction.
    Predicted,
    /// A person has to look; the prediction is withheld unless the bundle says `attach`.
    Review,
    /// The input cannot be a patient.
    Rejected,
    /// The caller, its rights or the server's state stand in the way.
    Refused,
    /// A request that asks for no prediction (a model's description) was answered.
    Answered,
    /// An authorized change is about to be made; in audit records only.
    Announced,
}

impl Outcome {
    /// As it is written in answers and audit records.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Predicted => "predicted",
            Self::Review => "review",
            Self::Rejected => "rejected",
            Self::Refused => "refused",
            Self::Answered => "answered",
            Self::Announced => "announced",
        }
    }
}

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $text:literal, $outcome:ident, $status:literal, $title:literal, $remedy:literal;)*) => {
        /// Why a request did not simply get its prediction.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Code { $($(#[$doc])* #[doc = $title] $name),* }
        impl Code {
            /// Every code, in the order of `docs/errors.md`.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];
            /// The code as clients and audit records see it.
            pub fn as_str(self) -> &'static str { match self { $(Self::$name => $text),* } }
            /// The outcome that this code leads to.
            pub fn outcome(self) -> Outcome { match self { $(Self::$name => Outcome::$outcome),* } }
            /// The HTTP status of an answer with this code (0: the TLS handshake ends instead).
            pub fn status(self) -> u16 { match self { $(Self::$name => $status),* } }
            /// What it means, in one sentence without a full stop.
            pub fn title(self) -> &'static str { match self { $(Self::$name => $title),* } }
            /// What the caller can do.
            pub fn remedy(self) -> &'static str { match self { $(Self::$name => $remedy),* } }
        }
    };
}

codes! {
    NoClientCertificate = "NO_CLIENT_CERTIFICATE", Refused, 0, "The client presented no certificate", "Present a client certificate of the configured CA (TLS alert certificate_required).";
    UntrustedCertificate = "UNTRUSTED_CERTIFICATE", Refused, 403, "The client certificate is not of a trusted CA, or is not valid for client authentication", "Use a certificate of a trusted CA. At the handshake this is the TLS alert unknown_ca, bad_certificate or the like; on a connection that was open already it is a 403.";
    CertificateNotCurrent = "CERTIFICATE_NOT_CURRENT", Refused, 403, "The client certificate has expired or is not valid yet", "Renew the certificate. At the handshake this is the TLS alert certificate_expired; on a connection that was open already it is a 403.";
    CertificateRevoked = "CERTIFICATE_REVOKED", Refused, 403, "The client certificate has been revoked", "Ask the operator for a new certificate. At the handshake this is the TLS alert certificate_revoked; on a connection that was open already it is a 403.";
    RevocationUnknown = "REVOCATION_UNKNOWN", Refused, 403, "Nobody can say whether the client certificate has been revoked", "Tell the operator: a current revocation list of the certificate's issuer is missing. At the handshake this is the TLS alert unknown_ca.";
    HandshakeFailed = "HANDSHAKE_FAILED", Refused, 0, "The TLS handshake failed or took too long", "Speak TLS 1.2 or 1.3 with one of the server's suites.";
    MalformedHttp = "MALFORMED_HTTP", Refused, 400, "The request head is not well-formed HTTP/1.1 or HTTP/1.0, can be understood in two ways, or is too large or too slow", "Send a well-formed head of at most 16 KiB and 100 fields, with one Content-Length or exactly Transfer-Encoding: chunked, at most one Content-Type, and no Expect but 100-continue.";
    UnknownPrincipal = "UNKNOWN_PRINCIPAL", Refused, 403, "No principal is configured for this client certificate", "Ask the operator to configure a principal with this certificate's subject alternative name.";
    TokenRequired = "TOKEN_REQUIRED", Refused, 401, "This listener takes bearer tokens, and there was none", "Send Authorization: Bearer with an access token.";
    InvalidToken = "INVALID_TOKEN", Refused, 401, "The bearer token does not hold", "Get a new access token for this server. The operator finds the reason in the audit log, by the request id.";
    AuthorizationAmbiguous = "AUTHORIZATION_AMBIGUOUS", Refused, 401, "There is more than one Authorization header", "Send one.";
    AuthorizationMalformed = "AUTHORIZATION_MALFORMED", Refused, 401, "The Authorization header is not Bearer, one space and a JWT", "Send Authorization: Bearer with an access token.";
    TokenTooLarge = "TOKEN_TOO_LARGE", Refused, 401, "The token is larger than 8 KiB", "Put less into it.";
    TokenMalformed = "TOKEN_MALFORMED", Refused, 401, "The token is not a JWT: three parts of base64url, header and claims JSON objects that name each member once", "Mend the issuer.";
    TokenAlgorithm = "TOKEN_ALGORITHM", Refused, 401, "The token's alg is not RS256, RS384, PS256, ES256 or ES384", "Sign with one of these; an alg of none or HS256 is an attack.";
    TokenCritical = "TOKEN_CRITICAL", Refused, 401, "The token's header has crit, an extension that must be understood", "Leave it out.";
    TokenType = "TOKEN_TYPE", Refused, 401, "The token's typ is neither at+jwt nor JWT", "Send an access token.";
    TokenKeyAddress = "TOKEN_KEY_ADDRESS", Refused, 401, "The token's jku is not one that is configured for its issuer", "Configure it if it is the issuer's; else this is an attack. It was not fetched.";
    TokenIssuer = "TOKEN_ISSUER", Refused, 401, "The token's iss is not a configured issuer", "Configure the issuer, or get the token elsewhere.";
    TokenKeyUnknown = "TOKEN_KEY_UNKNOWN", Refused, 401, "The token names no key, or one that its issuer does not have", "Publish the key in the issuer's key set; a key that was withdrawn voids its tokens.";
    TokenKeyMismatch = "TOKEN_KEY_MISMATCH", Refused, 401, "The token's alg does not fit the key that it names", "Use the key for what it is declared for.";
    TokenSignature = "TOKEN_SIGNATURE", Refused, 401, "The token's signature is wrong", "None: it was altered, or signed by somebody else.";
    TokenClaimMissing = "TOKEN_CLAIM_MISSING", Refused, 401, "The token lacks iss, aud, exp, iat, its subject, or (single-use) jti", "Mend the issuer.";
    TokenClaimInvalid = "TOKEN_CLAIM_INVALID", Refused, 401, "A claim of the token has the wrong type or form", "Mend the issuer.";
    TokenAudience = "TOKEN_AUDIENCE", Refused, 401, "The token is not for this server, or not for it alone", "Ask for a token with exactly the configured audience.";
    TokenExpired = "TOKEN_EXPIRED", Refused, 401, "The token has expired", "Get a new one.";
    TokenFromTheFuture = "TOKEN_FROM_THE_FUTURE", Refused, 401, "The token was issued, or its subject logged in, in the future", "Set the clocks right.";
    TokenNotYetValid = "TOKEN_NOT_YET_VALID", Refused, 401, "The token is not valid yet (nbf)", "Wait, or set the clocks right.";
    TokenTooLongLived = "TOKEN_TOO_LONG_LIVED", Refused, 401, "The token lives longer (exp - iat) than its issuer may make it", "Issue tokens of shorter life.";
    TokenScope = "TOKEN_SCOPE", Refused, 401, "The token lacks a required scope", "Ask for a token with all scopes that are configured.";
    TokenUnbound = "TOKEN_UNBOUND", Refused, 401, "The token is not bound to a certificate, as its issuer's have to be", "Get a certificate-bound token (RFC 8705).";
    TokenConfirmation = "TOKEN_CONFIRMATION", Refused, 401, "The token's cnf is not one x5t#S256", "Bind it to a certificate (RFC 8705).";
    TokenCertificateMissing = "TOKEN_CERTIFICATE_MISSING", Refused, 401, "The token is bound to a certificate, and the connection has none", "Connect with the certificate that the token was issued to.";
    TokenCertificateMismatch = "TOKEN_CERTIFICATE_MISMATCH", Refused, 401, "The token is bound to another certificate than the connection's", "Connect with the certificate that the token was issued to; else it was stolen.";
    TokenSubject = "TOKEN_SUBJECT", Refused, 401, "The token's subject is no configured principal, and its roles stand for nothing", "Configure the principal, or a role.";
    TokenOfAnother = "TOKEN_OF_ANOTHER", Refused, 401, "Token and certificate are two principals', and the token is not bound to the certificate", "Bind the token to the certificate, or send one's own.";
    TokenReplayed = "TOKEN_REPLAYED", Refused, 401, "The token is for one request, and was used", "Make a token for each request.";
    TokenOlderThanServer = "TOKEN_OLDER_THAN_SERVER", Refused, 401, "The token is for one request, and was issued before the server began to remember which were used", "Make a token for each request.";
    OnBehalfOfInvalid = "ON_BEHALF_OF_INVALID", Refused, 400, "The X-On-Behalf-Of header is repeated, is no identifier, or contradicts the token", "Send one, of 1 to 128 letters, digits and signs of identifiers, without spaces; it names a member of staff.";
    OnBehalfOfNotPermitted = "ON_BEHALF_OF_NOT_PERMITTED", Refused, 403, "This principal may not say on whose behalf it calls", "Leave X-On-Behalf-Of out, or ask the operator for names_clinician.";
    PriorityInvalid = "PRIORITY_INVALID", Refused, 400, "The X-Priority header is repeated, or neither stat, routine nor batch", "Send one of the three words, or leave the header out.";
    PriorityNotPermitted = "PRIORITY_NOT_PERMITTED", Refused, 403, "This principal may not ask before others", "Leave X-Priority: stat out, or ask the operator for predict-stat.";
    DeadlineInvalid = "DEADLINE_INVALID", Refused, 400, "The X-Request-Deadline header is repeated, or no number of milliseconds from 1 to 600000", "Send the milliseconds within which the answer is of use, as digits.";
    Forbidden = "FORBIDDEN", Refused, 403, "This principal's roles do not include this action", "Ask the operator for a role that may do this.";
    StepUpRequired = "STEP_UP_REQUIRED", Refused, 401, "This action needs a person who showed more than one factor not long ago", "Sign in again with more than one factor, and send the new token; the WWW-Authenticate header says how long ago that may be (RFC 9470).";
    ModelNotPermitted = "MODEL_NOT_PERMITTED", Refused, 403, "This principal may not use a model of this name (whether or not there is one)", "Ask the operator to grant the model.";
    UnknownPath = "UNKNOWN_PATH", Refused, 404, "There is nothing at this path", "See docs/integrating.md, which lists the paths.";
    UnknownModel = "UNKNOWN_MODEL", Refused, 404, "No model of this name is served", "List the models with GET /v1/models.";
    UnknownVersion = "UNKNOWN_VERSION", Refused, 404, "This version of the model is not served", "List the models with GET /v1/models.";
    MethodNotAllowed = "METHOD_NOT_ALLOWED", Refused, 405, "This path does not take this method", "Use a method that the Allow header names.";
    RateLimited = "RATE_LIMITED", Refused, 429, "The caller sends more requests a second than it may", "Try again after the time in Retry-After; the RateLimit fields of every answer say what is left.";
    TooManyAtOnce = "TOO_MANY_AT_ONCE", Refused, 429, "The caller has as many requests in flight as it may", "Wait for the answers to some of them.";
    BudgetExhausted = "BUDGET_EXHAUSTED", Refused, 429, "The caller has asked about as many different rows of this model as it may in a day", "Try again after the time in Retry-After. Rows that were answered today may be asked again. Ask the operator for a larger budget if you need one.";
    SlowedDown = "SLOWED_DOWN", Refused, 429, "The caller asks about this model in a way that looks like probing, and has to wait", "Try again after the time in Retry-After; ask the operator if this is honest use.";
    BodyTimeout = "BODY_TIMEOUT", Refused, 408, "The request body did not arrive in time", "Send the whole body promptly.";
    BodyIncomplete = "BODY_INCOMPLETE", Refused, 400, "The request body broke off or its framing is wrong", "Send as many bytes as announced.";
    BodyTooLarge = "BODY_TOO_LARGE", Refused, 413, "The request body is larger than the server takes", "Send one patient a request.";
    UnsupportedMediaType = "UNSUPPORTED_MEDIA_TYPE", Refused, 415, "The body is not declared as plain application/json", "Send Content-Type: application/json and no Content-Encoding.";
    MalformedJson = "MALFORMED_JSON", Rejected, 400, "The body is not JSON (RFC 8259)", "Correct the JSON at the pointer and position given.";
    NotUtf8 = "NOT_UTF8", Rejected, 400, "The body is not UTF-8", "Encode the body as UTF-8.";
    TooDeep = "TOO_DEEP", Rejected, 400, "The JSON is nested too deeply", "Send the documented shape; it is three levels deep.";
    UnknownField = "UNKNOWN_FIELD", Rejected, 422, "The field is not part of the model's request", "Remove it, or correct its name; GET /v1/models/{model}/schema lists all fields.";
    DuplicateKey = "DUPLICATE_KEY", Rejected, 422, "The same key is given twice", "Send each field once.";
    WrongType = "WRONG_TYPE", Rejected, 422, "The value has the wrong JSON type", "Send a number, null, or an object with value and unit, as the schema says.";
    NotWhole = "NOT_WHOLE", Rejected, 422, "The feature takes whole numbers only", "Send a whole number.";
    NonFinite = "NON_FINITE", Rejected, 422, "The value is not a finite number", "Send null for a value that was not measured.";
    TooLong = "TOO_LONG", Rejected, 422, "The text is too long", "Shorten it to the limit named.";
    MissingValue = "MISSING_VALUE", Rejected, 422, "The model needs this value", "Send the value; this feature may not be left out.";
    UnknownUnit = "UNKNOWN_UNIT", Rejected, 422, "The unit is not known", "Use a UCUM unit, or leave the unit out for the declared one.";
    IncompatibleUnit = "INCOMPATIBLE_UNIT", Rejected, 422, "The unit does not measure this quantity", "Use one of the units named.";
    ImpossibleValue = "IMPOSSIBLE_VALUE", Rejected, 422, "No living patient and no instrument gives this value", "Check the value, its decimal point and its unit.";
    ImpossibleCombination = "IMPOSSIBLE_COMBINATION", Rejected, 422, "These values cannot be true together", "Check which value was entered where.";
    UnknownReasonCode = "UNKNOWN_REASON_CODE", Rejected, 422, "The reason for overriding is not one of those that the review lists", "Use one of the reason codes named.";
    ReviewTokenInvalid = "REVIEW_TOKEN_INVALID", Refused, 409, "The review token was not made by these servers, or was altered", "Send the input without a review member, and use the token of that answer.";
    ReviewTokenExpired = "REVIEW_TOKEN_EXPIRED", Refused, 409, "The review token has expired", "Send the input without a review member; if it is still flagged, look again and use the new token.";
    ReviewModelChanged = "REVIEW_MODEL_CHANGED", Refused, 409, "The review was of another model or version than the one that judges now", "Send the input without a review member, to the model that is to judge it.";
    ReviewInputChanged = "REVIEW_INPUT_CHANGED", Refused, 409, "A value differs from the input that was reviewed", "Send the corrected input without a review member; it is judged anew.";
    OutsideExpected = "OUTSIDE_EXPECTED", Review, 200, "The value is outside the expected clinical range", "Confirm the measurement.";
    ImplausibleCombination = "IMPLAUSIBLE_COMBINATION", Review, 200, "These values are implausible together", "Check which value was entered where.";
    Atypical = "ATYPICAL", Review, 200, "The values are unlike those of the patients the model was made for", "Check the values named first; confirm that all are this patient's.";
    TooMuchMissing = "TOO_MUCH_MISSING", Review, 200, "More values are missing than the model may fill in", "Measure or send the missing values.";
    Disagreement = "DISAGREEMENT", Review, 200, "The members of the ensemble disagree more than on the patients they were calibrated on", "Judge without the model.";
    CallerUnderReview = "CALLER_UNDER_REVIEW", Review, 200, "The caller has asked in a way that looks like probing, so each of its requests goes to a person", "Judge without the model; ask the operator to look at the caller.";
    MemberFailed = "MEMBER_FAILED", Review, 200, "A network of the model gave no usable output for this input", "Judge without the model, and report it to the model's owner.";
    Unstable = "UNSTABLE", Review, 200, "The prediction would be in another band within the uncertainty of the measurements", "Do not rely on the band alone; measure again what was measured poorly.";
    KeysUnavailable = "KEYS_UNAVAILABLE", Refused, 503, "The keys of the token's issuer are not known, and it cannot be reached", "Try again later, or tell the operator.";
    TokenMemoryFull = "TOKEN_MEMORY_FULL", Refused, 503, "So many single-use tokens are in force that no more can be remembered", "Try again later.";
    CallerQuarantined = "CALLER_QUARANTINED", Refused, 403, "This principal has been quarantined, by an operator or for how it asked", "Ask the operator; one that followed from how it asked fades within hours, any other stands until it is released.";
    ModelQuarantined = "MODEL_QUARANTINED", Refused, 503, "The model has been quarantined by an operator and gives no predictions", "Judge without the model; ask the operator.";
    Overloaded = "OVERLOADED", Refused, 503, "The server has as many requests as it may hold, of this priority or in this time", "Try again after the time in Retry-After.";
    DeadlinePassed = "DEADLINE_PASSED", Refused, 503, "The deadline that the request named has passed before there was an answer", "Try again after the time in Retry-After, or give it more time.";
    CallerGone = "CALLER_GONE", Refused, 499, "The caller hung up while its request waited for its turn", "None: nobody was answered. The code, and the status that proxies use for this, are in the audit log only.";
    PolicyExpired = "POLICY_EXPIRED", Refused, 503, "The release policy that approved the model has expired, and says that predictions stop then", "Tell the operator; a renewed release policy has to be put in force.";
    ModelUnavailable = "MODEL_UNAVAILABLE", Refused, 503, "The model's networks have stopped", "Tell the operator; readiness is down.";
    AuditUnavailable = "AUDIT_UNAVAILABLE", Refused, 503, "The audit record could not be written, so no answer may leave", "Tell the operator; the audit log's disk is full or broken.";
    InvalidChange = "INVALID_CHANGE", Refused, 400, "The body of the admin call is not the JSON object that it takes, or its reason is missing or not fit to be recorded", "Send {\"reason\": \"…\"} with 3 to 200 characters, of ASCII letters, digits, space and .,:;()/#@+-_ (and \"on\": true or false for read-only mode).";
    ForeignForm = "FOREIGN_FORM", Refused, 403, "The form was not sent by a page of this server's console, or the server has been started anew since", "Open the page again and send the form from there.";
    InvalidQuery = "INVALID_QUERY", Refused, 400, "The query of the admin call is not one it takes", "Send last=N with N up to 10000, or no query.";
    NotInRepository = "NOT_IN_REPOSITORY", Refused, 404, "The repository has no such version of the model", "Put the signed bundle at <repository>/<name>/<version>/ first.";
    LoadRefused = "LOAD_REFUSED", Refused, 409, "The model version was not loaded; what served goes on", "Correct what cause says; verification is the same as at a start.";
    DeploymentInProgress = "DEPLOYMENT_IN_PROGRESS", Refused, 409, "Another deployment is in progress", "Try again when it is done.";
    ReadOnly = "READ_ONLY", Refused, 409, "The server is in read-only mode: nothing is deployed", "Ask who set it (GET /admin/v1/state), or leave read-only mode first.";
    UnknownCaller = "UNKNOWN_CALLER", Refused, 404, "No principal of this name is configured", "List the callers with GET /admin/v1/callers.";
    SelfQuarantine = "SELF_QUARANTINE", Refused, 409, "A principal may not quarantine itself", "Have another principal do it.";
    StateUnwritable = "STATE_UNWRITABLE", Refused, 503, "The change could not be written to the state directory", "Mend the disk and repeat the call; cause says what is in force meanwhile.";
    Internal = "INTERNAL", Refused, 500, "The server failed", "Tell the operator the request id.";
}

impl Code {
    /// What is said outside. Of a token that does not hold, every caller is told the same: the
    /// difference would tell a thief or a forger what to mend. The audit record has the reason.
    #[must_use]
    pub fn public(self) -> Self {
        let told = matches!(self, Self::TokenRequired | Self::StepUpRequired);
        if self.status() == 401 && !told {
            Self::InvalidToken
        } else {
            self
        }
    }
}

/// One fault of an input: what, where, and what was expected.
#[derive(Debug)]
pub struct InputFault {
    /// Stable code.
    pub code: Code,
    /// RFC 6901 pointer into the body. Keys are the caller's text, so it is treated as PHI.
    pub pointer: Phi<String>,
    /// The feature concerned, by its index in the model.
    pub feature: Option<usize>,
    /// What was expected. Never the patient's value.
    pub expected: String,
}

/// The input cannot be a patient: every fault that the stage found.
#[derive(Debug)]
pub struct Rejection {
    /// The model whose rules were broken (names the features).
    pub spec: Arc<ModelSpec>,
    /// At least one.
    pub faults: Vec<InputFault>,
    /// Whom the input is about, where it could be read; for its pseudonym only.
    pub subject: Option<Subject>,
}

impl Rejection {
    /// 400 when the bytes could not be read to their end as JSON, else 422.
    pub fn status(&self) -> u16 {
        self.faults
            .iter()
            .map(|f| f.code.status())
            .min()
            .unwrap_or(422)
    }
}

/// Why a person has to look at the input.
#[derive(Debug)]
pub struct ReviewReason {
    /// Stable code.
    pub code: Code,
    /// The features that drove it, ranked, by index.
    pub features: Vec<usize>,
    /// What plain words for a clinician are made of, in the language of the answer.
    pub words: Words,
    /// Values that stand out, in the order of `features`; empty where a rule says it all.
    pub findings: Vec<Finding>,
}

impl ReviewReason {
    /// A reason without findings.
    pub fn new(code: Code, features: Vec<usize>, words: Words) -> Self {
        Self {
            code,
            features,
            words,
            findings: Vec::new(),
        }
    }
}

/// What a reason says; the answer has the words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Words {
    /// The first feature's value is outside its expected range.
    Range,
    /// So many values are missing, more than are allowed to be.
    Missing {
        /// Are missing.
        count: u32,
        /// May be.
        allowed: u32,
    },
    /// The message of the bundle's rule at this index.
    Rule(usize),
    /// The findings say it; without any, all values together stand out.
    Findings,
    /// The networks disagree.
    Disagreement,
    /// Too few networks answered.
    NoQuorum,
    /// Some networks did not answer.
    Degraded,
    /// The caller asks in a way that looks like probing.
    CallerUnderReview,
    /// Nobody saw whether the prediction hangs on the uncertainty of the measurements.
    Unlooked,
    /// The prediction hangs on the uncertainty of the measurements; between which bands is not
    /// for who gets no prediction.
    Unstable,
    /// The prediction may lie anywhere from one band to another, by index.
    UnstableBetween {
        /// The lowest.
        low: usize,
        /// The highest.
        high: usize,
    },
}

/// A value that stands out. It is the caller's own and goes into the answer, nowhere else.
#[derive(Debug)]
pub struct Finding {
    /// The feature, by index.
    pub feature: usize,
    /// As it was given, in `unit`.
    pub value: Phi<f64>,
    /// What would be typical given the other values, in `unit`.
    pub typical: Phi<f64>,
    /// The unit it was sent in.
    pub unit: Phi<String>,
}

/// The caller or the server's state stands in the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Stable code.
    pub code: Code,
    /// Seconds to wait, where waiting helps.
    pub retry_after: Option<u32>,
    /// For 405: the methods that are allowed.
    pub allow: Option<&'static str>,
    /// For a step-up: seconds since the person signed in that would do.
    pub max_age: Option<u32>,
}

impl Refusal {
    /// For a caller that may come again after a time.
    pub fn after(code: Code, wait: Duration) -> Self {
        let whole = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        Self {
            retry_after: Some(u32::try_from(whole.max(1)).unwrap_or(u32::MAX)),
            ..code.into()
        }
    }
}

impl From<Code> for Refusal {
    fn from(code: Code) -> Self {
        let retry_after = match (code, code.status()) {
            // A person has to act first.
            (Code::ModelQuarantined, _) => Some(60),
            (_, 429 | 503) => Some(1),
            _ => None,
        };
        Self {
            code,
            retry_after,
            allow: None,
            max_age: None,
        }
    }
}

#[cfg(test)]
mod catalogue;
