//! A directory with everything `vitalgate serve` needs, made anew for each test.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use base64::Engine;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, RevocationReason,
    RevokedCertParams, SanType, SerialNumber,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tempfile::TempDir;
use time::OffsetDateTime;
use vitalgate::{
    authz::SHIPPED_DEV,
    bundle::signing::{Contents, Limits, SigningKey, sign},
    clock,
};

/// A client's certificate and key.
pub(crate) struct Identity {
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) key: PrivateKeyDer<'static>,
}

/// From when until when a certificate is valid, in seconds from now.
#[derive(Clone, Copy)]
pub(crate) struct Validity {
    pub(crate) from: i64,
    pub(crate) to: i64,
}

impl Validity {
    pub(crate) const CURRENT: Self = Self {
        from: -3600,
        to: 3600,
    };
    pub(crate) const EXPIRED: Self = Self {
        from: -7200,
        to: -3600,
    };
    pub(crate) const FUTURE: Self = Self {
        from: 3600,
        to: 7200,
    };
}

/// Principals of every site: name, roles, models. Their certificates say `URI:spiffe://it/NAME`.
const PRINCIPALS: [(&str, &str, &str); 7] = [
    ("clinician", "clinician", "*"),
    ("ehr", "ehr-system", "breast-cancer"),
    ("ops", "ops", "*"),
    ("second-ops", "ops", "*"),
    ("ml-engineer", "ml-engineer", "*"),
    ("compliance", "compliance", "*"),
    ("nobody", "ops", "none"),
];

/// Name of every site's authority.
pub(crate) const AUTHORITY: &str = "it CA";

pub(crate) struct Site {
    directory: TempDir,
    authority: CertifiedIssuer<'static, KeyPair>,
    builder: SigningKey,
    /// The configuration, to be changed before the start.
    pub(crate) config: String,
}

impl Site {
    /// Serves both demo models.
    pub(crate) fn new() -> Self {
        let mut site = Self::without_models();
        for name in ["breast-cancer", "icu-mortality"] {
            site.add_bundle(name, 1, model_source(name));
        }
        site
    }

    /// Serves both demo models by the access policy of `dev`, which asks nobody to step up: the
    /// principals of a site have certificates only.
    pub(crate) fn administrable() -> Self {
        let mut site = Self::new();
        site.configure(
            "[audit]\n",
            "[authorization]\npolicy = \"dev.cedar\"\n\n[audit]\n",
        );
        fs::write(site.path().join("dev.cedar"), SHIPPED_DEV).unwrap();
        site
    }

    pub(crate) fn without_models() -> Self {
        let directory = tempfile::Builder::new()
            .prefix("vitalgate-it-")
            .tempdir()
            .unwrap();
        let path = directory.path();
        let authority = authority(AUTHORITY);
        let (key, params) = (KeyPair::generate().unwrap(), server_certificate());
        let certificate = params.signed_by(&key, &authority).unwrap();
        fs::write(path.join("ca.pem"), authority.pem()).unwrap();
        fs::write(path.join("server.pem"), certificate.pem()).unwrap();
        write_private(&path.join("server.key"), &key.serialize_pem());
        let (private, public) = SigningKey::generate_p256().unwrap();
        fs::write(path.join("builder.pub"), public).unwrap();
        let (audit_private, audit_public) = vitalgate::audit::SigningKey::generate().unwrap();
        write_private(&path.join("audit.key"), &audit_private);
        fs::write(path.join("audit.pub"), audit_public).unwrap();
        write_private(&path.join("fleet.key"), &"f1".repeat(32));
        write_private(&path.join("pseudonym.key"), &"e2".repeat(32));
        Self {
            directory,
            authority,
            builder: SigningKey::from_pkcs8_pem(private.as_bytes()).unwrap(),
            config: configuration(),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Writes the configuration as it now is.
    pub(crate) fn config_file(&self) -> PathBuf {
        let path = self.path().join("vitalgate.toml");
        fs::write(&path, &self.config).unwrap();
        path
    }

    /// Replaces text of the configuration that must be there.
    pub(crate) fn configure(&mut self, from: &str, to: &str) {
        assert!(self.config.contains(from), "{from} is not in the config");
        self.config = self.config.replace(from, to);
    }

    /// Signs files as a bundle and serves them.
    pub(crate) fn add_bundle(
        &mut self,
        name: &str,
        version: u32,
        files: BTreeMap<String, Vec<u8>>,
    ) -> PathBuf {
        let directory = self
            .path()
            .join("repository")
            .join(name)
            .join(version.to_string());
        for (file, bytes) in files {
            let path = directory.join("bundle").join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
        sign_bundle(&directory, name, &self.builder);
        let model = format!("[[models]]\nname = \"{name}\"\nversion = {version}\n\n");
        self.config.push_str(&model);
        directory
    }

    /// The root that server certificates, and clients of this site, chain to.
    pub(crate) fn root(&self) -> CertificateDer<'static> {
        self.authority.der().clone()
    }

    /// A certificate of this site's authority for `URI:spiffe://it/NAME`.
    pub(crate) fn identity(&self, name: &str) -> Identity {
        self.issue(&[name], Validity::CURRENT)
    }

    /// As [`Site::identity`], with several names and any validity.
    pub(crate) fn issue(&self, names: &[&str], validity: Validity) -> Identity {
        issue(&self.authority, names, validity)
    }

    /// Writes the authority's revocation list, `ca.crl`, with these certificates on it; it is good
    /// for so many seconds.
    pub(crate) fn revoke(&self, revoked: &[&CertificateDer<'_>], good_for: i64) {
        let now = OffsetDateTime::UNIX_EPOCH + clock::since_epoch();
        let entry = |certificate: &&CertificateDer<'_>| {
            let (_, parsed) = x509_parser::parse_x509_certificate(certificate).unwrap();
            RevokedCertParams {
                serial_number: SerialNumber::from_slice(parsed.raw_serial()),
                revocation_time: now - time::Duration::seconds(10),
                reason_code: Some(RevocationReason::KeyCompromise),
                invalidity_date: None,
            }
        };
        let list = CertificateRevocationListParams {
            this_update: now - time::Duration::hours(2),
            next_update: now + time::Duration::seconds(good_for),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: revoked.iter().map(entry).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let list = list.signed_by(&self.authority).unwrap();
        let (new, path) = (self.path().join("ca.crl.new"), self.path().join("ca.crl"));
        fs::write(&new, list.pem().unwrap()).unwrap();
        fs::rename(new, path).unwrap();
    }

    /// A certificate of this site's authority, PEM.
    pub(crate) fn certify(&self, params: &CertificateParams, key: &KeyPair) -> String {
        params.signed_by(key, &self.authority).unwrap().pem()
    }

    /// Replaces the server's certificate and key.
    pub(crate) fn renew_server(&self) {
        let (key, params) = (KeyPair::generate().unwrap(), server_certificate());
        let certificate = params.signed_by(&key, &self.authority).unwrap();
        write_private(&self.path().join("server.key"), &key.serialize_pem());
        fs::write(self.path().join("server.pem"), certificate.pem()).unwrap();
    }

    /// Writes the certificate and key of a principal, for programs that want files.
    pub(crate) fn write_identity(&self, directory: &Path, name: &str) {
        let Identity { chain, key } = self.identity(name);
        let pem = |label: &str, der: &[u8]| {
            let text = base64::engine::general_purpose::STANDARD.encode(der);
            format!("-----BEGIN {label}-----\n{text}\n-----END {label}-----\n")
        };
        let certificate = pem("CERTIFICATE", &chain[0]);
        fs::write(directory.join(format!("{name}.pem")), certificate).unwrap();
        let key = pem("PRIVATE KEY", key.secret_der());
        write_private(&directory.join(format!("{name}.key")), &key);
    }

    /// A certificate of another authority, called `authority_name`, otherwise the same.
    pub(crate) fn foreign(authority_name: &str, name: &str) -> Identity {
        issue(&authority(authority_name), &[name], Validity::CURRENT)
    }
}

/// Signs what lies in `directory/bundle`.
pub(crate) fn sign_bundle(directory: &Path, name: &str, key: &SigningKey) {
    let contents = Contents::read(&directory.join("bundle"), &Limits::default()).unwrap();
    let signatures = directory.join("signatures");
    fs::create_dir_all(&signatures).unwrap();
    fs::write(
        signatures.join("builder.sig"),
        sign(&contents, name, key).unwrap(),
    )
    .unwrap();
}

/// The files of a demo model.
pub(crate) fn model_source(name: &str) -> BTreeMap<String, Vec<u8>> {
    fn collect(root: &Path, directory: &Path, files: &mut BTreeMap<String, Vec<u8>>) {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                collect(root, &path, files);
            } else {
                let name = path.strip_prefix(root).unwrap().to_str().unwrap();
                files.insert(name.to_owned(), fs::read(&path).unwrap());
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("models")
        .join(name)
        .join("bundle");
    let mut files = BTreeMap::new();
    collect(&root, &root, &mut files);
    files
}

pub(super) fn write_private(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

fn authority(name: &str) -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn server_certificate() -> CertificateParams {
    let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params
}

fn issue(
    authority: &CertifiedIssuer<'static, KeyPair>,
    names: &[&str],
    validity: Validity,
) -> Identity {
    let mut params = CertificateParams::default();
    let now = OffsetDateTime::UNIX_EPOCH + Duration::from_secs(clock::since_epoch().as_secs());
    params.not_before = now + time::Duration::seconds(validity.from);
    params.not_after = now + time::Duration::seconds(validity.to);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    for name in names {
        let uri = format!("spiffe://it/{name}").try_into().unwrap();
        params.subject_alt_names.push(SanType::URI(uri));
    }
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, authority).unwrap();
    Identity {
        chain: vec![certificate.der().clone()],
        key: PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
    }
}

fn configuration() -> String {
    let mut text = "repository = \"repository\"\n\n\
         [data]\nlisten = \"127.0.0.1:0\"\ncertificate = \"server.pem\"\nkey = \"server.key\"\n\
         client_ca = \"ca.pem\"\n\n\
         [admin]\nlisten = \"127.0.0.1:0\"\ncertificate = \"server.pem\"\n\
         key = \"server.key\"\nclient_ca = \"ca.pem\"\nstate = \"admin\"\n\n\
         [health]\nlisten = \"127.0.0.1:0\"\n\n\
         [limits]\nbody_seconds = 10\nconcurrent_requests = 1024\n\n\
         [budgets.ehr-system]\nrows_per_day = 1000000\nrequests_per_second = 1000000\n\
         burst = 1000000\nconcurrent_requests = 1000000\npatterns = \"shadow\"\n\n\
         [budgets.clinician]\nrows_per_day = \"unlimited\"\nrequests_per_second = 1000000\n\
         burst = 1000000\nconcurrent_requests = 1000000\npatterns = \"shadow\"\n\n\
         [onnxruntime]\nexecution = \"cpu\"\n\n\
         [trust]\nkeys = [\"builder.pub\"]\n\n\
         [audit]\ndirectory = \"audit\"\nmode = \"written\"\norigin = \"it.example/log\"\n\
         key = \"audit.key\"\n\n\
         [keys]\nfleet = \"fleet.key\"\npseudonym = \"pseudonym.key\"\n\n"
        .to_owned();
    for (name, role, models) in PRINCIPALS {
        let principal = format!(
            "[[principals]]\nname = \"{name}\"\nsan = \"URI:spiffe://it/{name}\"\n\
             roles = [\"{role}\"]\nmodels = [\"{models}\"]\n\n"
        );
        text.push_str(&principal);
    }
    text
}
