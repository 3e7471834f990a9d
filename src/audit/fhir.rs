//! A record as a FHIR R4 `AuditEvent`, in the vocabulary of IHE BALP (Basic Audit Log Patterns).
//!
//! It is a view for those who gather audit events of many systems; what can be verified is the
//! log. Every event names the record's number and hash, so that one leads to the other.

use serde_json::{Map, Value, json};

use super::chain::line_hash;

const DICOM: &str = "http://dicom.nema.org/resources/ontology/DCM";
const ENTITY_TYPE: &str = "http://terminology.hl7.org/CodeSystem/audit-entity-type";
const ENTITY_ROLE: &str = "http://terminology.hl7.org/CodeSystem/object-role";
const BALP_ENTITY: &str = "https://profiles.ihe.net/ITI/BALP/CodeSystem/BasicAuditEntityType";

/// The event of one record, given its line and the name of its log; nothing when the line is not
/// a record of ours.
pub fn audit_event(line: &[u8], origin: &str) -> Option<Value> {
    let record: Value = serde_json::from_slice(line).ok()?;
    let text = |name: &str| record.get(name).and_then(Value::as_str);
    let (seq, id) = (record.get("seq")?.as_u64()?, text("id")?);
    let action = text("action");
    let mut event = json!({
        "resourceType": "AuditEvent",
        "id": format!("{seq}-{id}"),
        "type": kind(&record, action),
        "action": verb(action),
        "recorded": text("time")?,
        "outcome": outcome(&record),
        "outcomeDesc": outcome_words(&record),
        "agent": agents(&record, origin),
        "source": {
            "observer": {"display": origin},
            "type": [coding(
                "http://terminology.hl7.org/CodeSystem/security-source-type",
                "4",
                "Application Server",
            )],
        },
        "entity": entities(&record, line),
    });
    if let (Some(action), Some(event)) = (action, event.as_object_mut()) {
        event.insert("subtype".to_owned(), subtypes(action));
    }
    Some(event)
}

fn coding(system: &str, code: &str, display: &str) -> Value {
    json!({"system": system, "code": code, "display": display})
}

/// What sort of event: somebody failed to log in, looked at the audit log, or made a request.
fn kind(record: &Value, action: Option<&str>) -> Value {
    let handshake = record.get("status").is_none_or(Value::is_null);
    match action {
        None if handshake => coding(DICOM, "110114", "User Authentication"),
        Some("read-audit") => coding(DICOM, "110101", "Audit Log Used"),
        Some(_) | None => coding(
            "http://terminology.hl7.org/CodeSystem/audit-event-type",
            "rest",
            "RESTful Operation",
        ),
    }
}

fn subtypes(action: &str) -> Value {
    let interaction = match verb(Some(action)) {
        "R" => ("read", "read"),
        "U" => ("update", "update"),
        _ => ("operation", "operation"),
    };
    let system = "http://hl7.org/fhir/restful-interaction";
    json!([
        coding(system, interaction.0, interaction.1),
        coding("urn:vitalgate:action", action, action),
    ])
}

/// FHIR's `audit-event-action`: read, update, execute.
fn verb(action: Option<&str>) -> &'static str {
    match action {
        Some(action) if action.starts_with("read-") => "R",
        Some("deploy" | "promote" | "quarantine") => "U",
        Some(_) | None => "E",
    }
}

/// FHIR's `audit-event-outcome`: success, minor failure (the caller's), serious failure (ours, or
/// a stranger at the door). A change that is announced has no status yet: it was let through, and
/// the record of its answer says what became of it.
fn outcome(record: &Value) -> &'static str {
    if record.get("disposition").and_then(Value::as_str) == Some("announced") {
        return "0";
    }
    match record.get("status").and_then(Value::as_u64) {
        Some(200..=399) => "0",
        Some(400..=499) => "4",
        Some(_) | None => "8",
    }
}

fn outcome_words(record: &Value) -> String {
    let words = |name: &str| -> Vec<&str> {
        let list = record.get(name).and_then(Value::as_array);
        list.into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect()
    };
    let disposition = record.get("disposition").and_then(Value::as_str);
    let mut text = disposition.unwrap_or_default().to_owned();
    for (label, words) in [(": ", words("codes")), ("; features: ", words("features"))] {
        if !words.is_empty() {
            text.push_str(label);
            text.push_str(&words.join(", "));
        }
    }
    text
}

/// The client (DICOM's source role), the person it acts for, and this server (the destination).
fn agents(record: &Value, origin: &str) -> Value {
    let text = |name: &str| record.get(name).and_then(Value::as_str);
    let role = |code: &str, display: &str| json!({"coding": [coding(DICOM, code, display)]});
    let person = text("on_behalf_of");
    let who = match text("principal") {
        Some(name) => json!({"identifier": {"system": "urn:vitalgate:principal", "value": name}}),
        None => json!({"display": "not authenticated"}),
    };
    let mut client = json!({
        "type": role("110153", "Source Role ID"),
        "who": who,
        "requestor": person.is_none(),
    });
    if let (Some(source), Some(client)) = (text("source"), client.as_object_mut()) {
        let address = source
            .rsplit_once(':')
            .map_or(source, |(address, _)| address);
        // Type 2 is an IP address.
        let network = json!({"address": address.trim_matches(['[', ']']), "type": "2"});
        client.insert("network".to_owned(), network);
    }
    let mut agents = vec![client];
    if let Some(name) = person {
        let system = "http://terminology.hl7.org/CodeSystem/v3-ParticipationType";
        agents.push(json!({
            "type": {"coding": [coding(system, "IRCP", "information recipient")]},
            "who": {"identifier": {"system": "urn:vitalgate:on-behalf-of", "value": name}},
            "requestor": true,
        }));
    }
    agents.push(json!({
        "type": role("110152", "Destination Role ID"),
        "who": {"display": origin},
        "requestor": false,
    }));
    agents.into()
}

fn entities(record: &Value, line: &[u8]) -> Value {
    let text = |name: &str| record.get(name).and_then(Value::as_str);
    let identified =
        |system: &str, value: &str| json!({"identifier": {"system": system, "value": value}});
    let detail = |name: &str, value: String| json!({"type": name, "valueString": value});
    let mut details = vec![detail("record-sha256", hex::encode(line_hash(line)))];
    for name in [
        "seq",
        "status",
        "authentication",
        "input",
        "target",
        "reason",
    ] {
        match record.get(name) {
            None | Some(Value::Null) => {}
            Some(Value::String(value)) => details.push(detail(name, value.clone())),
            Some(value) => details.push(detail(name, value.to_string())),
        }
    }
    let mut entities = vec![json!({
        "what": identified("urn:vitalgate:request", text("id").unwrap_or_default()),
        "type": coding(BALP_ENTITY, "XrequestId", "X-Request-Id"),
        "detail": details,
    })];
    if let Some(name) = text("model") {
        let version = record
            .get("version")
            .map(Value::to_string)
            .unwrap_or_default();
        let mut model = Map::new();
        model.insert(
            "what".to_owned(),
            identified("urn:vitalgate:model", &format!("{name}/{version}")),
        );
        model.insert("type".to_owned(), coding(ENTITY_TYPE, "2", "System Object"));
        model.insert(
            "role".to_owned(),
            coding(ENTITY_ROLE, "4", "Domain Resource"),
        );
        if let Some(digest) = text("digest") {
            model.insert(
                "detail".to_owned(),
                json!([detail("digest", digest.to_owned())]),
            );
        }
        entities.push(model.into());
    }
    if let Some(pseudonym) = text("patient") {
        entities.push(json!({
            "what": identified("urn:vitalgate:patient-pseudonym", pseudonym),
            "type": coding(ENTITY_TYPE, "1", "Person"),
            "role": coding(ENTITY_ROLE, "1", "Patient"),
        }));
    }
    entities.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outcome_is_the_records() {
        let of = |disposition: &str, status: Value| {
            let line = json!({
                "seq": 3, "time": "2026-03-01T10:00:00Z", "id": "r1", "action": "quarantine",
                "disposition": disposition, "status": status,
            });
            audit_event(line.to_string().as_bytes(), "it.example/log").unwrap()["outcome"].clone()
        };
        assert_eq!(of("announced", Value::Null), "0");
        assert_eq!(of("answered", 200.into()), "0");
        assert_eq!(of("rejected", 422.into()), "4");
        assert_eq!(of("failed", 503.into()), "8");
        assert_eq!(of("refused", Value::Null), "8");
    }
}
