//! Synthetic patients and public breast-mass measurements, as requests.

use std::{fs, path::Path};

use serde_json::{Map, Number, Value, json};

/// A synthetic patient that every screen of `icu-mortality` passes.
pub(crate) const ICU_PATIENT: &str =
    include_str!("../../../models/icu-mortality/examples/predicted.json");

/// Requests for `icu-mortality`, all different.
pub(crate) fn icu_patients() -> Vec<Value> {
    table(
        "icu-mortality/synthetic.csv",
        &["male", "mechanical_ventilation"],
    )
}

/// Requests for `breast-cancer`.
pub(crate) fn breast_cancer_patients() -> Vec<Value> {
    table("breast-cancer/patients.csv", &[])
}

fn table(file: &str, booleans: &[&str]) -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("models")
        .join(file);
    let text = fs::read_to_string(path).unwrap();
    let mut lines = text.lines();
    let names: Vec<&str> = lines.next().unwrap().split(',').collect();
    lines
        .map(|line| {
            let observations: Map<String, Value> = names
                .iter()
                .zip(line.split(','))
                .map(|(&name, field)| {
                    let value = match field {
                        "" => Value::Null,
                        _ if booleans.contains(&name) => Value::Bool(field == "1"),
                        _ => Value::Number(Number::from_f64(field.parse().unwrap()).unwrap()),
                    };
                    (name.to_owned(), value)
                })
                .collect();
            json!({"observations": observations})
        })
        .collect()
}
