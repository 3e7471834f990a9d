//! What there is, and what a request should look like.

use serde_json::{Value, json};

use crate::harness::{
    Answer, ICU_PATIENT, Server, Site, Wire, breast_cancer_patients, client, icu_patients,
    model_source, request,
};

fn ask(server: &Server, site: &Site, method: &str, path: &str) -> Answer {
    let mut wire = Wire::open(server, &client(site, "clinician"));
    wire.send(&request(method, path, "", b""));
    if method == "HEAD" {
        wire.answer_to_head()
    } else {
        wire.answer()
    }
}

fn get(server: &Server, site: &Site, path: &str) -> Value {
    let answer = ask(server, site, "GET", path);
    assert_eq!(answer.status, 200, "{path}: {}", answer.head);
    assert_eq!(answer.header("content-type"), Some("application/json"));
    answer.json()
}

/// What of JSON Schema 2020-12 the schemas use: enough to judge an instance by one.
fn holds(schema: &Value, instance: &Value) -> bool {
    schema.as_object().unwrap().iter().all(|(keyword, rule)| {
        let number = |limit: fn(f64, f64) -> bool| {
            instance
                .as_f64()
                .is_none_or(|x| limit(x, rule.as_f64().unwrap()))
        };
        match keyword.as_str() {
            "type" => {
                let one = std::slice::from_ref(rule);
                let names = rule.as_array().map_or(one, Vec::as_slice);
                names
                    .iter()
                    .any(|name| is_type(instance, name.as_str().unwrap()))
            }
            "enum" => rule.as_array().unwrap().contains(instance),
            "const" => rule == instance,
            "minimum" => number(|x, limit| x >= limit),
            "maximum" => number(|x, limit| x <= limit),
            "maxLength" => instance
                .as_str()
                .is_none_or(|s| s.chars().count() as u64 <= rule.as_u64().unwrap()),
            "anyOf" => rule.as_array().unwrap().iter().any(|s| holds(s, instance)),
            "oneOf" => {
                rule.as_array()
                    .unwrap()
                    .iter()
                    .filter(|s| holds(s, instance))
                    .count()
                    == 1
            }
            "required" => instance.as_object().is_none_or(|object| {
                let names = rule.as_array().unwrap();
                names
                    .iter()
                    .all(|n| object.contains_key(n.as_str().unwrap()))
            }),
            "properties" => instance.as_object().is_none_or(|object| {
                let rules = rule.as_object().unwrap();
                object
                    .iter()
                    .all(|(k, v)| rules.get(k).is_none_or(|r| holds(r, v)))
            }),
            "additionalProperties" => {
                assert_eq!(*rule, json!(false));
                let known = schema["properties"].as_object().unwrap();
                instance
                    .as_object()
                    .is_none_or(|object| object.keys().all(|k| known.contains_key(k)))
            }
            "$schema" | "$id" | "title" | "description" | "default" | "examples" => true,
            other => panic!("this test does not know the keyword {other}"),
        }
    })
}

fn is_type(instance: &Value, name: &str) -> bool {
    match name {
        "object" => instance.is_object(),
        "array" => instance.is_array(),
        "string" => instance.is_string(),
        "number" => instance.is_number(),
        "integer" => instance.as_f64().is_some_and(|x| x.fract() == 0.0),
        "boolean" => instance.is_boolean(),
        "null" => instance.is_null(),
        other => panic!("{other} is no type"),
    }
}

#[test]
fn the_schema_accepts_the_patients_and_rejects_faulty_ones() {
    let site = Site::new();
    let server = Server::start(&site);
    let schema = get(&server, &site, "/v1/models/icu-mortality/schema");
    assert_eq!(
        schema["$schema"],
        "https://json-schema.org/draft/2020-12/schema"
    );
    let patients = icu_patients();
    assert!(patients.iter().all(|patient| holds(&schema, patient)));
    let patient: Value = serde_json::from_str(ICU_PATIENT).unwrap();
    assert!(holds(&schema, &patient));
    let example = |name: &str| {
        let path = format!(
            "{}/models/icu-mortality/examples/{name}.json",
            env!("CARGO_MANIFEST_DIR")
        );
        serde_json::from_slice::<Value>(&std::fs::read(path).unwrap()).unwrap()
    };
    assert!(holds(&schema, &example("review")));
    assert!(!holds(&schema, &example("rejected")));
    let changed = |key: &str, value: Value| {
        let mut patient = patient.clone();
        patient["observations"][key] = value;
        patient
    };
    for (case, faulty) in [
        ("string", changed("heart_rate", json!("80"))),
        ("impossible", changed("heart_rate", json!(600))),
        ("null", changed("heart_rate", Value::Null)),
        ("half a score", changed("gcs", json!(14.5))),
        ("unknown feature", changed("gsc", json!(15))),
        (
            "unknown key of a value",
            changed("age", json!({"value": 1, "units": "a"})),
        ),
        ("no observations", json!({})),
        ("an array", json!([])),
        (
            "unknown section",
            json!({"observations": patient["observations"], "x": 1}),
        ),
    ] {
        assert!(!holds(&schema, &faulty), "{case}");
    }
    assert!(holds(&schema, &changed("magnesium", Value::Null)));
    assert!(holds(
        &schema,
        &changed("magnesium", json!({"value": 0.8, "unit": "mmol/L"}))
    ));
    println!("{} patients are valid by the schema", patients.len() + 2);

    let schema = get(&server, &site, "/v1/models/breast-cancer/schema");
    let features = schema["properties"]["observations"]["properties"]
        .as_object()
        .unwrap();
    assert_eq!(features.len(), 30);
    assert!(breast_cancer_patients().iter().all(|p| holds(&schema, p)));
}

#[test]
fn models_are_listed_and_described() {
    let site = Site::new();
    let server = Server::start(&site);
    let list = get(&server, &site, "/v1/models");
    let models = list["models"].as_array().unwrap();
    let names: Vec<&Value> = models.iter().map(|m| &m["name"]).collect();
    assert_eq!(names, ["breast-cancer", "icu-mortality"]);

    let base = "/v1/models/icu-mortality";
    let card = get(&server, &site, base);
    let source: Value =
        serde_json::from_slice(&model_source("icu-mortality")["model.json"]).unwrap();
    for key in [
        "name",
        "version",
        "title",
        "intended_use",
        "outcome",
        "output",
    ] {
        assert_eq!(card[key], source[key], "{key}");
    }
    assert_eq!(card["digest"], models[1]["digest"]);
    assert!(card["digest"].as_str().unwrap().starts_with("sha256:"));
    assert_eq!(card["provider"], "CPUExecutionProvider");
    assert_eq!(card["features"].as_array().unwrap().len(), 20);
    let readme = &model_source("icu-mortality")["README.md"];
    assert_eq!(card["card"].as_str().unwrap().as_bytes(), readme);
    // The version's own path says the same; the schema too.
    assert_eq!(get(&server, &site, &format!("{base}/versions/1")), card);
    assert_eq!(
        get(&server, &site, &format!("{base}/versions/1/schema")),
        get(&server, &site, &format!("{base}/schema"))
    );
    for (path, code) in [
        ("/v1/models/nothing", "UNKNOWN_MODEL"),
        ("/v1/models/nothing/schema", "UNKNOWN_MODEL"),
        ("/v1/models/icu-mortality/versions/2", "UNKNOWN_VERSION"),
        (
            "/v1/models/icu-mortality/versions/-1/schema",
            "UNKNOWN_VERSION",
        ),
        ("/v1/models/", "UNKNOWN_PATH"),
        ("/v1", "UNKNOWN_PATH"),
        ("/livez", "UNKNOWN_PATH"),
    ] {
        let answer = ask(&server, &site, "GET", path);
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (404, code),
            "{path}"
        );
    }
}

#[test]
fn methods() {
    let site = Site::new();
    let server = Server::start(&site);
    for path in [
        "/v1/models",
        "/v1/models/icu-mortality",
        "/v1/models/icu-mortality/schema",
    ] {
        let (head, get) = (
            ask(&server, &site, "HEAD", path),
            ask(&server, &site, "GET", path),
        );
        assert_eq!(head.status, 200);
        assert_eq!(head.header("content-length"), get.header("content-length"));
        for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"] {
            let answer = ask(&server, &site, method, path);
            assert_eq!(answer.status, 405, "{method} {path}");
            assert_eq!(answer.header("allow"), Some("GET, HEAD"), "{method} {path}");
        }
    }
    for method in ["GET", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"] {
        let answer = ask(&server, &site, method, "/v1/models/icu-mortality/predict");
        assert_eq!(answer.status, 405, "{method}");
        assert_eq!(answer.header("allow"), Some("POST"), "{method}");
        assert_eq!(answer.code(), "METHOD_NOT_ALLOWED");
    }
}

#[test]
fn an_answer_larger_than_every_buffer_arrives_whole() {
    let mut site = Site::without_models();
    let mut files = model_source("icu-mortality");
    let readme = "A long card. ".repeat(300_000);
    files.insert("README.md".to_owned(), readme.clone().into_bytes());
    site.add_bundle("icu-mortality", 1, files);
    let server = Server::start(&site);
    for headers in ["", "Connection: close\r\n"] {
        let mut wire = Wire::open(&server, &client(&site, "clinician"));
        wire.send(&request("GET", "/v1/models/icu-mortality", headers, b""));
        // The server's buffers fill up before anything is read.
        std::thread::sleep(std::time::Duration::from_millis(300));
        assert_eq!(wire.answer().json()["card"], readme, "{headers}");
    }
    // What came behind the request is not answered, and does not cut the answer short.
    let mut wire = Wire::open(&server, &client(&site, "clinician"));
    wire.send(&request("GET", "/v1/models/icu-mortality", "", b"").repeat(2));
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert_eq!(wire.answer().json()["card"], readme);
    wire.ends("a long answer to the first of two");
}
