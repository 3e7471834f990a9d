//! `[trust]`: a release policy and all that belongs to it, or plain keys.

use std::path::PathBuf;

use serde::Deserialize;
use toml::de::DeTable;

use super::{
    ReleasePolicy, Trust,
    reader::{Reader, field},
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawTrust {
    policy: Option<PathBuf>,
    policy_keys: Option<Vec<PathBuf>>,
    policy_threshold: Option<usize>,
    min_serial: Option<u64>,
    state: Option<PathBuf>,
    keys: Option<Vec<PathBuf>>,
}

impl RawTrust {
    /// The fields that were given and only belong to a policy.
    fn beside_policy(&self) -> impl Iterator<Item = &'static str> {
        [
            ("policy_keys", self.policy_keys.is_some()),
            ("policy_threshold", self.policy_threshold.is_some()),
            ("min_serial", self.min_serial.is_some()),
            ("state", self.state.is_some()),
        ]
        .into_iter()
        .filter_map(|(name, given)| given.then_some(name))
    }
}

impl Reader<'_> {
    /// Exactly one of `policy` and `keys`.
    pub(super) fn trust(&mut self, table: &DeTable<'_>, raw: RawTrust) -> Option<Trust> {
        let at = |name| field(table, "trust", name);
        let section = table.get("trust").map(|section| section.span().start);
        match (&raw.policy, &raw.keys) {
            (Some(_), Some(_)) => {
                self.problem(at("keys"), "trust: policy and keys are given; choose one");
                None
            }
            (None, Some(keys)) => {
                let stray: Vec<_> = raw.beside_policy().collect();
                for name in &stray {
                    self.problem(
                        at(name),
                        &format!("trust: {name} goes with policy, not keys"),
                    );
                }
                if keys.is_empty() {
                    self.problem(at("keys"), "trust: keys: name at least one public key");
                }
                raw.keys.map(Trust::Keys)
            }
            (None, None) => {
                self.problem(
                    section,
                    "trust: policy is missing (or keys, for trying out)",
                );
                None
            }
            (Some(_), None) => self.policy(table, section, raw).map(Trust::Policy),
        }
    }

    fn policy(
        &mut self,
        table: &DeTable<'_>,
        section: Option<usize>,
        raw: RawTrust,
    ) -> Option<ReleasePolicy> {
        let given: Vec<_> = raw.beside_policy().collect();
        for name in ["policy_keys", "policy_threshold", "min_serial"] {
            if !given.contains(&name) {
                self.problem(section, &format!("trust: {name} is missing"));
            }
        }
        if raw.min_serial == Some(0) {
            let at = field(table, "trust", "min_serial");
            self.problem(at, "trust: min_serial must be above 0");
        }
        if let (Some(keys), Some(threshold)) = (&raw.policy_keys, raw.policy_threshold)
            && (threshold == 0 || threshold > keys.len())
        {
            let at = field(table, "trust", "policy_threshold");
            let keys = keys.len();
            self.problem(
                at,
                &format!("trust: policy_threshold is {threshold}, of {keys} policy_keys"),
            );
        }
        Some(ReleasePolicy {
            file: raw.policy?,
            keys: raw.policy_keys?,
            threshold: raw.policy_threshold?,
            min_serial: raw.min_serial?,
            state: raw.state,
        })
    }
}
