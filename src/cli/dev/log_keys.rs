//! The keys of the audit log and of the identifiers in it, made once.

use std::{fs, path::Path};

use anyhow::anyhow;
use vitalgate::audit::SigningKey;
use zeroize::Zeroizing;

use super::write_private;

pub(super) fn ensure(keys: &Path) -> anyhow::Result<()> {
    let audit = keys.join("audit.key");
    if !audit.exists() {
        let (private, _) = SigningKey::generate()?;
        write_private(&audit, private.as_bytes())?;
    }
    let public = SigningKey::load(&audit)?.public().to_pem();
    let path = keys.join("audit.pub");
    if fs::read(&path).ok().as_deref() != Some(public.as_bytes()) {
        write_private(&path, public.as_bytes())?;
    }
    for name in ["fleet.key", "pseudonym.key"] {
        let path = keys.join(name);
        if !path.exists() {
            let mut secret = Zeroizing::new([0; 32]);
            aws_lc_rs::rand::fill(secret.as_mut_slice())
                .map_err(|_| anyhow!("the system gives no randomness"))?;
            let text = Zeroizing::new(hex::encode(secret.as_slice()) + "\n");
            write_private(&path, text.as_bytes())?;
        }
    }
    Ok(())
}
