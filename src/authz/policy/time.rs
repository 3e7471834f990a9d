//! Which decisions of a policy change as time goes by: those about actions for which some policy
//! reads `context.auth_age`.

use std::collections::BTreeSet;

use cedar_policy::{ActionConstraint, Policy, PolicySet};
use serde_json::Value;

use super::Action;

const ATTRIBUTE: &str = "auth_age";

/// What a policy set makes of the time.
#[derive(Debug)]
pub(super) struct Timing {
    /// For each action that depends on it, the ages its policies name, seconds.
    actions: Vec<(Action, BTreeSet<u32>)>,
}

impl Timing {
    pub(super) fn of(policies: &PolicySet) -> Self {
        let read: Vec<(&Policy, Value)> = policies
            .policies()
            .filter_map(|policy| {
                // A policy that cannot be looked into may read anything.
                let json = policy.to_json().unwrap_or_else(|_| context());
                reads_time(&json).then_some((policy, json))
            })
            .collect();
        let actions = Action::ALL.into_iter().filter_map(|action| {
            let about = read.iter().filter(|(policy, _)| concerns(policy, action));
            let mut about = about.peekable();
            about.peek()?;
            let mut ages = BTreeSet::new();
            about.for_each(|(_, json)| collect_ages(json, &mut ages));
            Some((action, ages))
        });
        Self {
            actions: actions.collect(),
        }
    }

    /// Whether decisions about the action depend on the time.
    pub(super) fn depends(&self, action: Action) -> bool {
        self.actions.iter().any(|(timed, _)| *timed == action)
    }

    /// Ages that the action's policies may compare with, and one less each; longest first.
    pub(super) fn ages(&self, action: Action) -> Vec<u32> {
        let named = self.actions.iter().filter(|(timed, _)| *timed == action);
        let ages: BTreeSet<u32> = named
            .flat_map(|(_, ages)| ages.iter().flat_map(|&age| [age, age.saturating_sub(1)]))
            .collect();
        ages.into_iter().rev().collect()
    }
}

fn context() -> Value {
    serde_json::json!({"Var": "context"})
}

fn concerns(policy: &Policy, action: Action) -> bool {
    match policy.action_constraint() {
        ActionConstraint::Any => true,
        ActionConstraint::Eq(uid) => uid.id().unescaped() == action.as_str(),
        ActionConstraint::In(uids) => uids.iter().any(|u| u.id().unescaped() == action.as_str()),
    }
}

/// Whether Cedar's JSON form of a policy reads the age, or the context as a whole.
fn reads_time(json: &Value) -> bool {
    match json {
        Value::Object(members) => {
            let access = members.get(".").or_else(|| members.get("has"));
            if let Some(access) = access
                && access.get("left") == Some(&context())
            {
                return access.get("attr").and_then(Value::as_str) == Some(ATTRIBUTE);
            }
            *json == context() || members.values().any(reads_time)
        }
        Value::Array(items) => items.iter().any(reads_time),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

fn collect_ages(json: &Value, ages: &mut BTreeSet<u32>) {
    match json {
        Value::Object(members) => members.values().for_each(|v| collect_ages(v, ages)),
        Value::Array(items) => items.iter().for_each(|v| collect_ages(v, ages)),
        Value::Number(number) => {
            ages.extend(number.as_u64().and_then(|n| u32::try_from(n).ok()));
        }
        Value::Null | Value::Bool(_) | Value::String(_) => {}
    }
}
