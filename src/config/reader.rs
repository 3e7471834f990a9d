//! Reads the file to its end, whatever is wrong with it, so that an operator mends it in one go.

use serde::{Deserialize, de::IntoDeserializer};
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    Authorization, Budgets, Config, DataPlane, Drift, Limits, Problem, Review, ServedModel, Store,
    Telemetry,
    issuers::{self, RawIssuer},
    principals::RawPrincipal,
};

/// The sections of the file, in the order they are documented.
const SECTIONS: &[&str] = &[
    "repository",
    "data",
    "admin",
    "health",
    "limits",
    "budgets",
    "store",
    "onnxruntime",
    "trust",
    "models",
    "audit",
    "authorization",
    "keys",
    "review",
    "drift",
    "telemetry",
    "principals",
    "issuers",
];

/// Reads a configuration; every problem, by line.
pub(super) fn read(text: &str) -> Result<Config, Vec<Problem>> {
    let mut reader = Reader {
        text,
        problems: Vec::new(),
    };
    match reader.config() {
        Some(config) if reader.problems.is_empty() => Ok(config),
        _ => {
            reader.problems.sort_by_key(|p| p.line);
            Err(reader.problems)
        }
    }
}

pub(super) struct Reader<'t> {
    text: &'t str,
    problems: Vec<Problem>,
}

/// Something of the file, and the byte where it starts.
pub(super) struct At<T> {
    pub(super) start: usize,
    pub(super) it: T,
}

impl Reader<'_> {
    fn config(&mut self) -> Option<Config> {
        let (table, errors) = DeTable::parse_recoverable(self.text);
        for error in errors {
            self.problem(error.span().map(|s| s.start), error.message());
        }
        if !self.problems.is_empty() {
            return None;
        }
        let table = table.get_ref();
        for (key, _) in table {
            let name: &str = key.get_ref();
            if !SECTIONS.contains(&name) {
                let known = SECTIONS.join(", ");
                self.problem(
                    Some(key.span().start),
                    &format!("unknown section {name}; known: {known}"),
                );
            }
        }
        // All sections are read before any is missed, so that every problem is reported.
        let repository = self.section(table, "repository", &[]);
        let data = self.listeners(table);
        let admin = self.admin(table);
        let health = self.section(table, "health", &["listen"]);
        let limits = self.optional::<Limits>(table, "limits", &[]);
        let budgets = self.optional::<Budgets>(table, "budgets", &[]);
        let needed = ["url", "ca", "password", "replicas"];
        let store = if table.contains_key("store") {
            self.section::<Store>(table, "store", &needed).map(Some)
        } else {
            Some(None)
        };
        let onnxruntime = self.section(table, "onnxruntime", &["execution"]);
        let trust = self.section(table, "trust", &[]);
        let models = self.list::<ServedModel>(table, "models", &["name", "version"]);
        let authorization = self.optional::<Authorization>(table, "authorization", &["policy"]);
        let logged = ["directory", "mode", "origin", "key"];
        let audit = self.section(table, "audit", &logged);
        let keys = self.section(table, "keys", &["fleet", "pseudonym"]);
        let review = self.optional::<Review>(table, "review", &[]);
        let drift = self.optional::<Drift>(table, "drift", &[]);
        let telemetry = self.optional::<Telemetry>(table, "telemetry", &[]);
        let principal = ["name", "roles", "models"];
        // With tokens alone, all callers may get their roles from their issuer.
        let principals = if table.contains_key("principals") || !table.contains_key("issuers") {
            self.list::<RawPrincipal>(table, "principals", &principal)
        } else {
            Vec::new()
        };
        let before_issuers = self.problems.len();
        let issuers = if table.contains_key("issuers") {
            self.list::<RawIssuer>(table, "issuers", &issuers::REQUIRED)
        } else {
            Vec::new()
        };
        let issuers = self.issuers(issuers);
        // Where one could not be read, a principal may well name it.
        let known = (self.problems.len() == before_issuers).then_some(&*issuers);
        let principals = self.principals(principals, known);
        if let Some(data) = &data {
            self.check_tokens_are_believed(table, data);
        }
        let trust = trust.and_then(|raw| self.trust(table, raw));
        self.check_limits(table, limits.as_ref());
        if let Some(budgets) = &budgets {
            self.check_budgets(table, budgets, &principals, &issuers);
        }
        self.check_store(table, store.as_ref().and_then(Option::as_ref));
        self.check_models(table, &models);
        self.check_audit(table, audit.as_ref());
        self.check_review(table, review.as_ref());
        self.check_telemetry(table, telemetry.as_ref());
        Some(Config {
            data: data?,
            admin: admin?,
            health: health?,
            limits: limits?,
            budgets: budgets?,
            store: store?,
            onnxruntime: onnxruntime?,
            trust: trust?,
            repository: repository?,
            models: models.into_iter().map(|m| m.it).collect(),
            audit: audit?,
            authorization: authorization?,
            keys: keys?,
            review: review?,
            drift: drift?,
            telemetry: telemetry?,
            principals,
            issuers,
            document: toml::from_str(self.text).unwrap_or_default(),
        })
    }

    fn check_limits(&mut self, table: &DeTable<'_>, limits: Option<&Limits>) {
        let Some(l) = limits else { return };
        let count = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
        for (name, value, least, most) in [
            ("body_bytes", count(l.body_bytes), 1, 64 << 20),
            (
                "active_requests",
                count(l.active_requests.unwrap_or(1)),
                1,
                1 << 20,
            ),
            (
                "concurrent_requests",
                count(l.concurrent_requests),
                1,
                1 << 20,
            ),
            ("connections", count(l.connections), 1, 1 << 20),
            ("head_seconds", l.head_seconds, 1, 3600),
            ("body_seconds", l.body_seconds, 1, 3600),
            ("idle_seconds", l.idle_seconds, 1, 3600),
            ("drain_seconds", l.drain_seconds, 0, 3600),
        ] {
            let at = field(table, "limits", name);
            if !(least..=most).contains(&value) {
                self.problem(at, &format!("limits: {name} must be {least} to {most}"));
            }
        }
    }

    fn check_models(&mut self, table: &DeTable<'_>, models: &[At<ServedModel>]) {
        let listed = table.get("models").map(Spanned::get_ref);
        if let Some(DeValue::Array(items)) = listed
            && items.is_empty()
        {
            let at = table.get("models").map(|v| v.span().start);
            self.problem(at, "models: serve at least one model");
        }
        for (i, At { start, it: m }) in models.iter().enumerate() {
            let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
            if m.name.is_empty() || !m.name.chars().all(plain) {
                self.problem(
                    Some(*start),
                    &format!("models: name {:?} should be of a-z, 0-9, -", m.name),
                );
            }
            if m.version == 0 {
                self.problem(Some(*start), "models: versions start at 1");
            }
            if models.iter().take(i).any(|other| other.it == *m) {
                let (name, version) = (&m.name, m.version);
                self.problem(
                    Some(*start),
                    &format!("models: {name} version {version} is listed twice"),
                );
            }
        }
    }

    fn check_tokens_are_believed(&mut self, table: &DeTable<'_>, data: &[DataPlane]) {
        for listener in data {
            if listener.authentication.takes_tokens() && !table.contains_key("issuers") {
                let message = "data: authentication by jwt needs an issuer: [[issuers]] is missing";
                self.problem_at_line(listener.line, message);
            }
        }
    }

    /// A section that may be left out.
    fn optional<T: Default + for<'de> Deserialize<'de>>(
        &mut self,
        table: &DeTable<'_>,
        name: &str,
        required: &[&str],
    ) -> Option<T> {
        if table.contains_key(name) {
            self.section(table, name, required)
        } else {
            Some(T::default())
        }
    }

    pub(super) fn section<T: for<'de> Deserialize<'de>>(
        &mut self,
        table: &DeTable<'_>,
        name: &str,
        required: &[&str],
    ) -> Option<T> {
        let Some(value) = table.get(name) else {
            self.problem(None, &format!("section {name} is missing"));
            return None;
        };
        self.value(value.clone(), name, required)
    }

    pub(super) fn list<T: for<'de> Deserialize<'de>>(
        &mut self,
        table: &DeTable<'_>,
        name: &str,
        required: &[&str],
    ) -> Vec<At<T>> {
        let Some(value) = table.get(name) else {
            self.problem(None, &format!("section [[{name}]] is missing"));
            return Vec::new();
        };
        let DeValue::Array(items) = value.get_ref() else {
            self.problem(Some(value.span().start), &format!("write it as [[{name}]]"));
            return Vec::new();
        };
        items
            .iter()
            .filter_map(|item| {
                let start = item.span().start;
                let it = self.value(item.clone(), name, required)?;
                Some(At { start, it })
            })
            .collect()
    }

    /// Reads a value by its type. A field at fault is reported and taken out, and the rest is
    /// read again, until every fault is found; what is missing then was reported already.
    pub(super) fn value<T: for<'de> Deserialize<'de>>(
        &mut self,
        mut value: Spanned<DeValue<'_>>,
        name: &str,
        required: &[&str],
    ) -> Option<T> {
        let start = value.span().start;
        let mut complete = true;
        if let DeValue::Table(table) = value.get_ref() {
            for missing in required.iter().filter(|f| !table.contains_key(**f)) {
                self.problem(Some(start), &format!("{name}: {missing} is missing"));
                complete = false;
            }
        }
        loop {
            let error = match T::deserialize(value.clone().into_deserializer()) {
                Ok(parsed) => return complete.then_some(parsed),
                Err(error) => error,
            };
            let at = error.span().map_or(start, |s| s.start);
            let culprit = value.get_ref().as_table().and_then(|table| {
                table
                    .iter()
                    .find(|(k, v)| k.span().contains(&at) || v.span().contains(&at))
                    .map(|(k, _)| k.clone())
            });
            if culprit.is_some() || complete {
                self.problem(Some(at), &format!("{name}: {}", error.message()));
            }
            let (Some(culprit), DeValue::Table(table)) = (culprit, value.get_mut()) else {
                return None;
            };
            table.remove(&culprit);
            complete = false;
        }
    }

    pub(super) fn problem(&mut self, offset: Option<usize>, message: &str) {
        let line = offset.map_or(0, |o| self.line(o));
        self.problem_at_line(line, message);
    }

    /// The line of a byte, from 1.
    pub(super) fn line(&self, offset: usize) -> usize {
        1 + self
            .text
            .bytes()
            .take(offset)
            .filter(|&b| b == b'\n')
            .count()
    }

    pub(super) fn problem_at_line(&mut self, line: usize, message: &str) {
        self.problems.push(Problem {
            line,
            message: message.to_owned(),
        });
    }
}

/// Where the value of a section's field starts.
pub(super) fn field(table: &DeTable<'_>, section: &str, name: &str) -> Option<usize> {
    let fields = table.get(section)?.get_ref().as_table()?;
    fields.get(name).map(|v| v.span().start)
}
