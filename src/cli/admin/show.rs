//! Answers, for people.

use serde_json::Value;
use vitalgate::error_chain::printable;

use super::AdminCommand;
use crate::cli::table::table;

pub(super) fn answer(command: &AdminCommand, answer: &Value) -> String {
    match command {
        AdminCommand::Models => models(answer),
        AdminCommand::Callers => callers(answer),
        AdminCommand::AuditRecords { .. } => list(answer, "lines")
            .iter()
            .map(text)
            .collect::<Vec<_>>()
            .join("\n"),
        AdminCommand::Load(_) => {
            let model = &answer["loaded"];
            let of = format!(
                "{} version {}",
                text(&model["name"]),
                text(&model["version"])
            );
            format!(
                "loaded {of}: {}, {}",
                text(&model["state"]),
                text(&model["digest"])
            )
        }
        AdminCommand::Unload(_) => {
            let model = &answer["unloaded"];
            format!(
                "unloaded {} version {}",
                text(&model["name"]),
                text(&model["version"])
            )
        }
        AdminCommand::Quarantine(_) | AdminCommand::Release(_) => subject(answer),
        AdminCommand::ReadOnly { .. } => {
            read_only(answer).unwrap_or_else(|| "read-only mode is off".to_owned())
        }
        AdminCommand::State
        | AdminCommand::AuditHead
        | AdminCommand::Config
        | AdminCommand::Metrics => plain(answer),
        AdminCommand::Evidence { .. } => evidence(answer),
    }
}

fn evidence(report: &Value) -> String {
    let mut rows = vec![["FILE", "BYTES", "SHA-256"].map(str::to_owned)];
    rows.extend(
        list(report, "files")
            .iter()
            .map(|file| [&file["name"], &file["bytes"], &file["sha256"]].map(text)),
    );
    let mut lines = vec![format!("wrote {}", text(&report["out"]))];
    lines.extend(table(&rows));
    if report["records_cut"] == true {
        lines
            .push("the log has more of the records that were asked for: copy its files".to_owned());
    }
    lines.push(format!(
        "sha256 of the file itself: {}",
        text(&report["sha256"])
    ));
    lines.join("\n")
}

fn models(answer: &Value) -> String {
    let head = [
        "MODEL",
        "VERSION",
        "STATE",
        "PROVIDER",
        "POLICY",
        "APPROVED BY",
        "DIGEST",
    ];
    let mut rows = vec![head.map(str::to_owned)];
    rows.extend(list(answer, "models").iter().map(|model| {
        let approvals = list(model, "approvals").iter();
        let roles: Vec<String> = approvals
            .map(|a| {
                a["role"]
                    .as_str()
                    .map_or("a trusted key".to_owned(), printable)
            })
            .collect();
        [
            text(&model["name"]),
            text(&model["version"]),
            text(&model["state"]),
            text(&model["provider"]),
            text(&model["policy_serial"]),
            roles.join(", "),
            text(&model["digest"]).chars().take(19).collect(),
        ]
    }));
    let mut lines = table(&rows);
    let policy = &answer["policy"];
    if !policy.is_null() {
        lines.push(format!(
            "release policy {} expires {}",
            text(&policy["serial"]),
            text(&policy["expires"])
        ));
    }
    if !answer["read_only"].is_null() {
        lines.push(format!("read-only mode is on{}", why(&answer["read_only"])));
    }
    for quarantine in list(answer, "quarantines") {
        let version = quarantine["version"].as_u64();
        let version = version.map_or("every version".to_owned(), |v| format!("version {v}"));
        let name = text(&quarantine["name"]);
        lines.push(format!(
            "{name}, {version}: quarantined{}",
            why(&quarantine["hold"])
        ));
    }
    lines.join("\n")
}

fn callers(answer: &Value) -> String {
    let mut rows =
        vec![["CALLER", "STATE", "ROLES", "MODELS", "QUARANTINED BY"].map(str::to_owned)];
    rows.extend(list(answer, "callers").iter().map(|caller| {
        let words = |name| {
            list(caller, name)
                .iter()
                .map(text)
                .collect::<Vec<_>>()
                .join(", ")
        };
        let hold = &caller["quarantine"];
        let by = if hold.is_null() {
            String::new()
        } else {
            why(hold).trim_start_matches(", ").to_owned()
        };
        [
            text(&caller["name"]),
            text(&caller["state"]),
            words("roles"),
            words("models"),
            by,
        ]
    }));
    table(&rows).join("\n")
}

fn subject(answer: &Value) -> String {
    let version = answer["version"].as_u64();
    let version = version.map_or(String::new(), |v| format!(" version {v}"));
    let already = if answer["changed"] == false {
        " (it was already)"
    } else {
        ""
    };
    let why = if answer["quarantine"].is_null() {
        String::new()
    } else {
        why(&answer["quarantine"])
    };
    let [name, state] = ["name", "state"].map(|field| text(&answer[field]));
    format!("{name}{version}: {state}{already}{why}")
}

fn read_only(answer: &Value) -> Option<String> {
    let hold = Some(&answer["read_only"]).filter(|hold| !hold.is_null())?;
    Some(format!("read-only mode is on{}", why(hold)))
}

/// Who stopped it, when and why.
fn why(hold: &Value) -> String {
    let [by, since, reason] = ["by", "since", "reason"].map(|name| text(&hold[name]));
    format!(", by {by} since {since}: {reason}")
}

/// An answer that is its own explanation: one line a field.
fn plain(answer: &Value) -> String {
    let mut lines = Vec::new();
    flatten("", answer, &mut lines);
    table(&lines).join("\n")
}

fn flatten(name: &str, value: &Value, lines: &mut Vec<[String; 2]>) {
    let below = |part: &str| match name {
        "" => part.to_owned(),
        _ => format!("{name}.{part}"),
    };
    match value {
        Value::Object(fields) => {
            for (part, value) in fields {
                flatten(&below(part), value, lines);
            }
        }
        Value::Array(items) if items.iter().any(Value::is_object) => {
            for (i, item) in items.iter().enumerate() {
                flatten(&below(&i.to_string()), item, lines);
            }
        }
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(text).collect();
            lines.push([name.to_owned(), items.join(", ")]);
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            lines.push([name.to_owned(), text(value)]);
        }
    }
}

fn list<'v>(value: &'v Value, name: &str) -> &'v [Value] {
    value[name].as_array().map_or(&[], Vec::as_slice)
}

/// A value as a cell. What the server says is not trusted with the terminal.
fn text(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => printable(text),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
            printable(&value.to_string())
        }
    }
}
