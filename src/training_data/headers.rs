//! Which column holds which feature.

use crate::bundle::model::{Feature, ModelSpec};

use super::{Columns, TableError};

/// What people write above a column, by LOINC code (or by the feature's name where there is no
/// code for it), lower case without punctuation.
const USUAL: &[(&str, &[&str])] = &[
    ("8867-4", &["hr", "heartrate", "pulse"]),
    (
        "8480-6",
        &["sbp", "sysbp", "sysabp", "nisysabp", "systolicbp"],
    ),
    (
        "8462-4",
        &["dbp", "diasbp", "diasabp", "nidiasabp", "diastolicbp"],
    ),
    ("8478-0", &["map", "meanbp", "mbp", "nimap"]),
    ("8310-5", &["temp", "temperature", "bodytemperature"]),
    ("9269-2", &["gcs", "gcstotal"]),
    ("9192-6", &["urine24", "urine24h", "urine", "urineoutput"]),
    ("3094-0", &["bun", "bloodureanitrogen"]),
    ("2160-0", &["creatinine", "creat", "cr"]),
    ("2951-2", &["na", "sodium"]),
    ("2823-3", &["k", "potassium"]),
    ("1963-8", &["hco3", "bicarbonate"]),
    ("2345-7", &["glucose", "glu"]),
    ("6690-2", &["wbc", "leukocytes"]),
    ("4544-3", &["hct", "hematocrit", "haematocrit"]),
    ("777-3", &["platelets", "plt"]),
    ("19123-9", &["mg", "magnesium"]),
    ("9279-1", &["resprate", "rr", "respiratoryrate"]),
    ("2524-7", &["lactate"]),
    ("1975-2", &["bilirubin"]),
    ("1751-7", &["albumin"]),
    ("mechanical_ventilation", &["mechvent", "ventilated"]),
    ("male", &["sexmale", "ismale"]),
];

/// The column of each feature, in the model's order.
pub(super) fn features(
    headers: &[String],
    spec: &ModelSpec,
    columns: &Columns,
) -> Result<Vec<usize>, TableError> {
    for (name, _) in &columns.named {
        if !spec.by_name.contains_key(name) {
            return Err(TableError::NoFeature(name.clone()));
        }
    }
    let found: Result<Vec<usize>, TableError> = spec
        .features
        .iter()
        .map(|feature| {
            let named = columns.named.iter().find(|(name, _)| *name == feature.name);
            match named {
                // Of several files one may have another header, the feature's own.
                Some((_, header)) => exact(headers, header, &feature.name)
                    .or_else(|missing| by_custom(headers, feature).map_err(|_| missing)),
                None => by_custom(headers, feature),
            }
        })
        .collect();
    let known = |feature: &Feature| {
        !matches!(
            by_custom(headers, feature),
            Err(TableError::NoColumn { .. } | TableError::NoHeader { .. })
        )
    };
    match found {
        Err(TableError::NoColumn { .. }) if !spec.features.iter().any(known) => {
            Err(no_header(headers))
        }
        found => found,
    }
}

/// The column of exactly this header, which must be there once.
pub(super) fn exact(headers: &[String], wanted: &str, role: &str) -> Result<usize, TableError> {
    let mut found = (0..headers.len()).filter(|&i| headers.get(i).is_some_and(|h| h == wanted));
    match (found.next(), found.next()) {
        (Some(index), None) => Ok(index),
        (Some(_), Some(_)) => Err(TableError::Ambiguous {
            first: wanted.to_owned(),
            second: wanted.to_owned(),
            role: role.to_owned(),
            with: "a header of its own",
        }),
        (None, _) => Err(missing(headers, wanted, role)),
    }
}

/// The one column with one of these headers, if there is one.
pub(super) fn usual(
    headers: &[String],
    names: &[&str],
    role: &str,
    with: &'static str,
) -> Result<Option<usize>, TableError> {
    let known = |header: &String| names.contains(&plain(header).as_str());
    only(headers, known, role, with)
}

/// The one column whose header fits.
fn only(
    headers: &[String],
    fits: impl Fn(&String) -> bool,
    role: &str,
    with: &'static str,
) -> Result<Option<usize>, TableError> {
    let mut found = headers.iter().enumerate().filter(|(_, h)| fits(h));
    match (found.next(), found.next()) {
        (Some((_, first)), Some((_, second))) => Err(TableError::Ambiguous {
            first: first.clone(),
            second: second.clone(),
            role: role.to_owned(),
            with,
        }),
        (found, _) => Ok(found.map(|(index, _)| index)),
    }
}

fn by_custom(headers: &[String], feature: &Feature) -> Result<usize, TableError> {
    // The feature's own name comes first: a file that uses it leaves no doubt.
    if let Ok(index) = exact(headers, &feature.name, &feature.name) {
        return Ok(index);
    }
    let name = plain(&feature.name);
    let loinc = feature.loinc.as_deref();
    let customary = USUAL
        .iter()
        .filter(|(key, _)| Some(*key) == loinc || *key == feature.name)
        .flat_map(|(_, words)| words.iter().copied());
    let customary: Vec<&str> = customary.collect();
    let fits = |header: &String| {
        let text = plain(header);
        text == name
            || loinc.is_some_and(|code| header == code)
            || customary.contains(&text.as_str())
    };
    only(headers, fits, &feature.name, "--map")?
        .ok_or_else(|| missing(headers, &feature.name, &feature.name))
}

/// What is on the first line is shown only where it is names: without a header it is a patient.
fn missing(headers: &[String], wanted: &str, role: &str) -> TableError {
    if headers.iter().any(|cell| cell.parse::<f64>().is_ok()) {
        return no_header(headers);
    }
    TableError::NoColumn {
        wanted: wanted.to_owned(),
        role: role.to_owned(),
        found: headers.join(", "),
    }
}

fn no_header(headers: &[String]) -> TableError {
    TableError::NoHeader {
        columns: headers.len(),
    }
}

fn plain(header: &str) -> String {
    let letters = header.chars().filter(char::is_ascii_alphanumeric);
    letters.map(|c| c.to_ascii_lowercase()).collect()
}
