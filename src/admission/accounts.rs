//! All callers that have asked for something, by name; a bounded number of them.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
};

use metrics::SharedString;

use super::account::Account;
use crate::{
    authn::Principal,
    authz::Role,
    clock,
    config::{Budget, Budgets},
};

/// Callers that only their tokens name, at most: an issuer may name any number. Beyond it they
/// share one account until others have nothing left to remember, so that more names never are
/// more budget. Callers that the configuration lists are always counted by themselves.
pub const UNLISTED: usize = 16_384;
/// The name of the account that they share then; no principal can have it.
const SHARED: &str = "";

/// Callers' accounts.
#[derive(Debug)]
pub struct Accounts {
    budgets: Budgets,
    by_name: RwLock<Table>,
}

#[derive(Debug)]
struct Known {
    account: Arc<Account>,
    listed: bool,
}

#[derive(Debug, Default)]
struct Table {
    all: HashMap<Box<str>, Known>,
    unlisted: usize,
    /// When it was last looked for accounts to forget, Unix seconds.
    swept: u64,
}

impl Accounts {
    /// Of nobody yet, with these budgets by role.
    pub fn new(budgets: Budgets) -> Self {
        Self {
            budgets,
            by_name: RwLock::default(),
        }
    }

    /// The account of who pays, by the limits that are its own now.
    pub fn of(&self, payer: &Principal) -> Arc<Account> {
        self.named_now(
            payer.name(),
            payer.label().name(),
            payer.roles(),
            payer.listed(),
        )
    }

    /// The account of a caller with this name, label, roles, and budget of its own if it is listed.
    pub fn named_now(
        &self,
        name: &str,
        label: SharedString,
        roles: &[Role],
        listed: Option<&Budget>,
    ) -> Arc<Account> {
        let own = listed.cloned().unwrap_or_default();
        let limits = self.budgets.limits(roles, &own);
        {
            let known = self.by_name.read().unwrap_or_else(PoisonError::into_inner);
            if let Some(Known { account, .. }) = known.all.get(name)
                && account.is(&limits, roles)
            {
                return Arc::clone(account);
            }
        }
        let mut known = self.by_name.write().unwrap_or_else(PoisonError::into_inner);
        let present = known.all.get(name).map(|known| &known.account);
        let (name, new) = match present {
            Some(account) if account.is(&limits, roles) => return Arc::clone(account),
            Some(account) => (name, account.with(limits, roles)),
            None => {
                let room = listed.is_some() || known.has_room();
                if !room {
                    return known.shared(&self.budgets);
                }
                known.unlisted += usize::from(listed.is_none());
                (name, Account::new(name, label, limits, roles))
            }
        };
        let account = Arc::new(new);
        let entry = Known {
            account: Arc::clone(&account),
            listed: listed.is_some(),
        };
        known.all.insert(name.into(), entry);
        account
    }

    /// Every account.
    pub fn all(&self) -> Vec<Arc<Account>> {
        let known = self.by_name.read().unwrap_or_else(PoisonError::into_inner);
        known.all.values().map(|k| Arc::clone(&k.account)).collect()
    }

    /// The account of a caller by name, if it has asked for anything.
    pub fn named(&self, name: &str) -> Option<Arc<Account>> {
        let known = self.by_name.read().unwrap_or_else(PoisonError::into_inner);
        known.all.get(name).map(|k| Arc::clone(&k.account))
    }
}

impl Table {
    /// The account of all for whom there is no room: with the limits of nobody in particular, and
    /// never quarantined as a whole, since there may be clinicians among them.
    fn shared(&mut self, budgets: &Budgets) -> Arc<Account> {
        let shared = self.all.entry(SHARED.into()).or_insert_with(|| {
            let limits = budgets.limits(&[], &Budget::default());
            let account = Account::new(SHARED, "*".into(), limits, &[Role::Clinician]);
            Known {
                account: Arc::new(account),
                listed: true,
            }
        });
        Arc::clone(&shared.account)
    }

    /// Whether another unlisted caller may have an account; forgets, once a minute, who has
    /// nothing left to remember.
    fn has_room(&mut self) -> bool {
        let now = clock::since_epoch().as_secs();
        if self.unlisted >= UNLISTED && now >= self.swept + 60 {
            self.swept = now;
            self.all.retain(|_, Known { account, listed }| {
                *listed || Arc::strong_count(account) > 1 || !account.is_spent(now)
            });
            self.unlisted = self.all.values().filter(|known| !known.listed).count();
        }
        self.unlisted < UNLISTED
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::CallerLimits;

    #[test]
    fn names_beyond_the_bound_share_one_account() {
        let accounts = Accounts::new(Budgets::default());
        let unlisted = |n: usize| Principal::unlisted(&format!("idp/{n}"), &[Role::Clinician]);
        let first = accounts.of(&unlisted(0));
        // Nobody with something to remember is forgotten.
        let query = crate::extraction::Query {
            fingerprint: 1,
            embedding: None,
            flagged: false,
            answered: true,
            version: 1,
        };
        let limits = *first.limits();
        let terms = crate::extraction::Terms::new(
            &limits,
            first.clinical(),
            &crate::bundle::model::QueriesSpec::default(),
        );
        let now = u64::try_from(clock::since_epoch().as_millis()).unwrap();
        for n in 0..UNLISTED {
            let account = accounts.of(&unlisted(n));
            account.with_ledger("icu-mortality", |l| l.enter(&query, &terms, now));
        }
        let beyond = [UNLISTED, UNLISTED + 1].map(|n| accounts.of(&unlisted(n)));
        assert!(Arc::ptr_eq(&beyond[0], &beyond[1]));
        assert!(!Arc::ptr_eq(&beyond[0], &first));
        // Whoever came first.
        let other = Principal::unlisted("idp/other", &[Role::MlEngineer]);
        assert!(Arc::ptr_eq(&beyond[0], &accounts.of(&other)));
        assert_eq!(beyond[0].limits(), &CallerLimits::DEFAULT);
        assert_eq!(beyond[0].clinical(), crate::extraction::Clinical::Person);
        assert!(
            Arc::ptr_eq(&accounts.of(&unlisted(0)), &first),
            "its own still"
        );
        // A listed caller has an account in any case.
        let listed = accounts.of(&Principal::example("ehr", &[Role::EhrSystem], &["*"]));
        assert_eq!(listed.name(), "ehr");
        assert!(accounts.all().len() <= UNLISTED + 2);
    }

    /// Tokens of one subject with different roles, turn by turn.
    #[test]
    fn other_roles_do_not_give_rate_or_places_back() {
        let budgets: Budgets = toml::from_str(
            "clinician = { requests_per_second = 1, burst = 5, concurrent_requests = 3 }\n\
             ml-engineer = { requests_per_second = 1, burst = 8, concurrent_requests = 4 }",
        )
        .unwrap();
        let accounts = Accounts::new(budgets);
        let of = |turn: usize| {
            let role = [Role::Clinician, Role::MlEngineer][turn % 2];
            accounts.of(&Principal::unlisted("idp/ann", &[role]))
        };
        let mut shown = crate::admission::Shown::default();
        let started = clock::monotonic();
        let paced = (0..200).filter(|turn| of(*turn).pace(&mut shown).is_ok());
        let paced = paced.count();
        // What came back meanwhile, at both rates.
        let since = usize::try_from(started.elapsed().as_secs() + 1).unwrap();
        assert!(paced <= 5 + 8 + 2 * since, "{paced}");

        let places: Vec<_> = (0..20).filter_map(|turn| of(turn).place().ok()).collect();
        assert_eq!(places.len(), 4);
        drop(places);
        assert!(of(0).place().is_ok());
    }

    #[test]
    fn other_limits_do_not_give_a_budget_back() {
        let accounts = Accounts::new(Budgets::default());
        let as_clinician = Principal::example("ann", &[Role::Clinician], &["*"]);
        let query = crate::extraction::Query {
            fingerprint: 1,
            embedding: None,
            flagged: false,
            answered: true,
            version: 1,
        };
        let account = accounts.of(&as_clinician);
        let terms = crate::extraction::Terms::new(
            account.limits(),
            account.clinical(),
            &crate::bundle::model::QueriesSpec::default(),
        );
        let now = u64::try_from(clock::since_epoch().as_millis()).unwrap();
        account.with_ledger("m", |l| l.enter(&query, &terms, now));
        // Yesterday's rows are not today's, whoever looks first.
        let rows = |seconds: u64| account.asked(seconds).iter().map(|of| of.rows).sum::<u32>();
        assert_eq!(rows(now / 1000), 1);
        let changed = accounts.of(&Principal::example("ann", &[Role::EhrSystem], &["*"]));
        assert!(!Arc::ptr_eq(&account, &changed));
        assert_eq!(changed.with_ledger("m", |l| l.used()), 1);
        assert_eq!(rows(now / 1000 + 86_400), 0);
    }
}
