use std::io;

use base64::DecodeError;

use super::path_fault::PathFault;

/// Why a bundle was not verified, or not signed. Text from an unverified file is quoted, escaped
/// and cut, so that it cannot forge a log line.
#[derive(Debug, thiserror::Error)]
pub enum SigningError {
    /// The operating system refused.
    #[error("{path}: cannot be read")]
    Io {
        /// The file or directory.
        path: String,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// The bundle's path is not a directory, or is a symbolic link.
    #[error("{path}: not a directory (symbolic links are not followed)")]
    NotDirectory {
        /// The path given.
        path: String,
    },
    /// Links could be pointed elsewhere after the check.
    #[error("{path}: a symbolic link, which a bundle may not hold")]
    Symlink {
        /// The link.
        path: String,
    },
    /// A FIFO, socket or device.
    #[error("{path}: not a regular file")]
    NotRegular {
        /// The entry.
        path: String,
    },
    /// A name that could mean another file elsewhere, or is not UTF-8.
    #[error(
        "{name:?}: not a canonical relative name (parts joined by single slashes, no '.', '..', backslash, colon or control character, at most {} bytes)",
        super::tree::MAX_NAME
    )]
    Name {
        /// The name, from the disk or the statement.
        name: String,
    },
    /// Too many files, or too many directories.
    #[error("more than {limit} files or directories")]
    TooMany {
        /// The most allowed.
        limit: usize,
    },
    /// Nested too deep.
    #[error("{path}: more than {limit} levels deep")]
    TooDeep {
        /// The directory.
        path: String,
        /// The most allowed.
        limit: usize,
    },
    /// One file is too large.
    #[error("{path}: larger than {limit} bytes")]
    FileTooLarge {
        /// The file.
        path: String,
        /// The most allowed, in bytes.
        limit: u64,
    },
    /// The files together are too large.
    #[error("{path}: with it the bundle is larger than {limit} bytes")]
    BundleTooLarge {
        /// The file that was one too many.
        path: String,
        /// The most allowed, in bytes.
        limit: u64,
    },

    /// The signature file is not the JSON it should be.
    #[error("signature file: {reason}")]
    SignatureJson {
        /// What is wrong, and where.
        reason: String,
    },
    /// The signed statement is not the JSON it should be.
    #[error("signed statement: {reason}")]
    StatementJson {
        /// What is wrong, and where.
        reason: String,
    },
    /// A signed document of another kind is not the JSON it should be.
    #[error("{document}: {reason}")]
    DocumentJson {
        /// Which.
        document: &'static str,
        /// What is wrong, and where.
        reason: String,
    },
    /// Two readers could take different values, so neither may.
    #[error("{document}: the key {key} appears twice in one object")]
    DuplicateKey {
        /// The signature file or the statement.
        document: &'static str,
        /// The key.
        key: String,
    },
    /// Another version of the bundle format, or another format.
    #[error("mediaType is {found}, not {}", super::envelope::MEDIA_TYPE)]
    MediaType {
        /// What the file says.
        found: String,
    },
    /// The envelope holds something else than it should.
    #[error("payloadType is {found}, not {expected}")]
    PayloadType {
        /// What it should say.
        expected: &'static str,
        /// What the file says.
        found: String,
    },
    /// None, or more than one.
    #[error("{found} signatures in the envelope; exactly one is allowed")]
    SignatureCount {
        /// How many there are.
        found: usize,
    },
    /// Not standard, padded base64.
    #[error("{field}: not standard base64")]
    Base64 {
        /// The field of the signature file.
        field: &'static str,
        /// What is wrong.
        #[source]
        source: DecodeError,
    },
    /// Neither a key nor a certificate, or more than one of them.
    #[error(
        "verificationMaterial: {found} of publicKey, certificate and x509CertificateChain are given; exactly one is allowed"
    )]
    MaterialCount {
        /// How many there are.
        found: usize,
    },
    /// Signed with a key where a certificate is trusted, or the reverse.
    #[error("verificationMaterial is a {found}, but a {trusted} is trusted")]
    MaterialKind {
        /// What the signature file has.
        found: &'static str,
        /// What it should have.
        trusted: &'static str,
    },
    /// Another key's signature, by its own account.
    #[error("publicKey.hint is not the SHA-256 of the trusted key's PEM text")]
    KeyHint,
    /// What the operator gave to trust cannot be used.
    #[error("trusted key: {reason}")]
    TrustedKey {
        /// What is wrong with it.
        reason: String,
    },
    /// What the operator gave to trust cannot be used.
    #[error("trusted roots: {reason}")]
    TrustedRoots {
        /// What is wrong with them.
        reason: String,
    },
    /// No certificates, or too many.
    #[error("{found} certificates in the chain; 1 to {limit} are allowed")]
    ChainLength {
        /// How many there are.
        found: usize,
        /// The most allowed.
        limit: usize,
    },
    /// The signer's certificate is malformed.
    #[error("signing certificate: cannot be read")]
    Leaf(#[source] PathFault),
    /// An issuer's certificate is malformed.
    #[error("certificate {position} of the chain: cannot be read")]
    Issuer {
        /// Its place, the signer's being 1.
        position: usize,
    },
    /// The signer's certificate is for other uses of its key.
    #[error("signing certificate: its key usage does not include digital signatures")]
    KeyUsage,
    /// No valid path now from the signer's certificate to a trusted root.
    #[error("signing certificate: not trusted for code signing now")]
    Chain(#[source] PathFault),
    /// Not P-256, P-384 or P-521.
    #[error("the signer's key is not ECDSA on P-256, P-384 or P-521")]
    UnsupportedKey,
    /// The signature does not hold for these bytes under this key.
    #[error("the signature does not hold")]
    BadSignature,

    /// Another kind of statement, though well signed.
    #[error("signed statement: {field} is {found}, not {expected}")]
    StatementType {
        /// `_type` or `predicateType`.
        field: &'static str,
        /// What it says.
        found: String,
        /// What it should say.
        expected: &'static str,
    },
    /// None, or more than one.
    #[error("signed statement: {found} subjects; exactly one is allowed")]
    SubjectCount {
        /// How many there are.
        found: usize,
    },
    /// Valid elsewhere, outside this profile.
    #[error("signed statement: serialization.{field} is {found}, which this server does not allow")]
    Serialization {
        /// The field.
        field: &'static str,
        /// What it says.
        found: String,
    },
    /// No files, or too many.
    #[error("signed statement: {found} files listed; 1 to {limit} are allowed")]
    ResourceCount {
        /// How many there are.
        found: usize,
        /// The most allowed.
        limit: usize,
    },
    /// A file's digest algorithm.
    #[error("{name}: the signed digest's algorithm is {found}, not sha256")]
    Algorithm {
        /// The file.
        name: String,
        /// What it says.
        found: String,
    },
    /// A digest that is not 64 lower-case hexadecimal digits.
    #[error("{name}: the signed digest is not 64 lower-case hexadecimal digits")]
    DigestForm {
        /// The file, or `subject`.
        name: String,
    },
    /// One name, two entries.
    #[error("{name}: listed twice in the signed statement")]
    ListedTwice {
        /// The file.
        name: String,
    },
    /// Git's files are never loaded, so a signature cannot ask for them.
    #[error("{name}: signed, but git's own files are never loaded; sign the bundle without them")]
    GitFile {
        /// The file.
        name: String,
    },
    /// Signed, and not there.
    #[error("{name}: signed, but missing from the bundle")]
    Missing {
        /// The file.
        name: String,
    },
    /// There, and not signed.
    #[error("{name}: in the bundle, but not signed")]
    Unsigned {
        /// The file.
        name: String,
    },
    /// Not the bytes that were signed.
    #[error("{name}: its content is not what was signed")]
    Digest {
        /// The file.
        name: String,
    },
    /// The list and its digest disagree.
    #[error("signed statement: the subject's digest is not that of the listed files")]
    RootDigest,

    /// The private key cannot be used. Never says anything of its content.
    #[error("private key: {reason}")]
    PrivateKey {
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The key holder failed to sign.
    #[error("signing failed: {reason}")]
    Signer {
        /// What it said.
        reason: String,
    },
    /// The statement or bundle could not be written as JSON.
    #[error("cannot be written as JSON")]
    Encode(#[source] serde_json::Error),
}

/// At most 80 characters of text nobody vouches for, quoted and escaped.
pub(in crate::bundle) fn excerpt(text: &str) -> String {
    const LONGEST: usize = 80;
    let shown: String = text.chars().take(LONGEST).collect();
    let cut = if shown.len() < text.len() { "…" } else { "" };
    format!("{shown:?}{cut}")
}
