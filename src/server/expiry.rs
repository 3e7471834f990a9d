//! Tells operators that the release policy is about to expire, at 30, 7 and 1 days.

use std::time::Duration;

use crate::{
    bundle::{
        Authority,
        policy::{Notice, OnExpiry, Remaining, Terms},
    },
    clock,
    deployment::Deployer,
};

/// A clock that is set, or a machine that sleeps, must not put a warning off for long.
const LONGEST_SLEEP: Duration = Duration::from_mins(10);

/// Logs each notice once for each policy that is in force. Never ends: a deployment may bring
/// another one.
pub async fn watch_expiry(deployer: &Deployer) {
    let (mut serial, mut told) = (0, Notice::Fine);
    loop {
        let mut pause = LONGEST_SLEEP;
        if let Authority::Policy(policy) = &*deployer.authority() {
            let terms = policy.terms();
            if terms.serial() != serial {
                (serial, told) = (terms.serial(), Notice::Fine);
            }
            let left = Remaining::at(clock::utc(), terms.expires());
            if left.notice > told {
                told = left.notice;
                tell(terms, told);
            }
            if let Some(next) = left.until_next {
                // Past the step, not on its edge.
                let next = Duration::try_from(next).unwrap_or_default() + Duration::from_millis(5);
                pause = pause.min(next);
            }
        }
        tokio::time::sleep(pause).await;
    }
}

fn tell(terms: &Terms, notice: Notice) {
    let (serial, expires) = (terms.serial(), terms.expires_text());
    match notice {
        Notice::Fine => {}
        Notice::Month => {
            tracing::warn!(serial, expires, "the release policy expires within 30 days");
        }
        Notice::Week => {
            tracing::warn!(serial, expires, "the release policy expires within 7 days");
        }
        Notice::Day => {
            tracing::error!(serial, expires, "the release policy expires within 1 day");
        }
        Notice::Expired => match terms.on_expiry() {
            OnExpiry::Keep => tracing::error!(
                serial,
                expires,
                "the release policy has expired: models go on, none can be loaded"
            ),
            OnExpiry::Stop => tracing::error!(
                serial,
                expires,
                "the release policy has expired: predictions are refused (POLICY_EXPIRED)"
            ),
        },
    }
}
