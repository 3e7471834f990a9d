//! What `build` is told of where a model comes from, and what it finds out by itself.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

use anyhow::anyhow;
use aws_lc_rs::digest::{Context, SHA256};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::cli::Failure;
use vitalgate::named_file;

/// The file of `--provenance`: what only its makers know. Every field may be left out.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(in crate::cli::bundle) struct Provenance {
    /// Who trained the model: people or organisations.
    pub(super) trained_by: Vec<String>,
    /// Who changed it since, and how.
    pub(super) modified_by: Vec<String>,
    /// Who approved it for use. Signatures prove approval; this only names people.
    pub(super) approved_by: Vec<String>,
    /// What it was trained and exported with.
    pub(super) tools: Vec<Tool>,
    /// Of the model, in words.
    pub(super) architecture: Option<String>,
    /// Of the training data, in words: source, period, selection, licence. Never a row.
    pub(super) data: Option<String>,
    /// What was measured.
    pub(super) metrics: Vec<Measured>,
    /// Who is meant to use it.
    pub(super) users: Vec<String>,
    /// For what.
    pub(super) use_cases: Vec<String>,
    /// Where it must not be trusted.
    pub(super) limits: Vec<String>,
}

/// A program that had a part in making the model.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Tool {
    pub(super) name: String,
    pub(super) version: String,
}

/// A measured performance.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Measured {
    /// For instance `AUROC`.
    #[serde(rename = "type")]
    pub(super) kind: String,
    /// As it is to be printed.
    pub(super) value: String,
    /// On which part of the data.
    pub(super) slice: Option<String>,
    /// The confidence interval's ends.
    pub(super) interval: Option<(String, String)>,
}

impl Provenance {
    pub(in crate::cli::bundle) fn parse(json: &[u8]) -> Result<Self, String> {
        let provenance = serde_json::from_slice(json).map_err(|error| error.to_string())?;
        let value: Value = serde_json::from_slice(json).map_err(|error| error.to_string())?;
        if !value.is_object() {
            return Err("not a JSON object".to_owned());
        }
        check_words("", &value)?;
        Ok(provenance)
    }

    /// What is said of the data where no file of it is given: a component without a hash.
    pub(super) fn described_data(&self) -> Option<Value> {
        let words = self.data.as_ref()?;
        let name = "training data";
        Some(json!({
            "type": "data",
            "bom-ref": DESCRIBED_DATA,
            "name": name,
            "data": [{"type": "dataset", "name": name, "description": words}],
        }))
    }
}

/// The reference of data that is described and not given.
pub(super) const DESCRIBED_DATA: &str = "data:described";

/// What the types let pass: texts that say nothing, lists in the place of objects, intervals that
/// do not hold their value.
fn check_words(place: &str, value: &Value) -> Result<(), String> {
    match value {
        Value::String(text) if text.trim().is_empty() => Err(format!("{place}: empty text")),
        Value::Array(list) => {
            let objects = matches!(place, "tools" | "metrics");
            list.iter().enumerate().try_for_each(|(index, item)| {
                let place = format!("{place}[{index}]");
                if objects && !item.is_object() {
                    return Err(format!("{place}: not an object"));
                }
                check_words(&place, item)
            })
        }
        Value::Object(fields) => {
            check_interval(place, value)?;
            fields.iter().try_for_each(|(name, field)| {
                let place = match place {
                    "" => name.clone(),
                    _ => format!("{place}.{name}"),
                };
                check_words(&place, field)
            })
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Ok(()),
    }
}

fn check_interval(place: &str, metric: &Value) -> Result<(), String> {
    let number = |pointer| {
        let text = metric.pointer(pointer)?.as_str()?;
        text.trim()
            .trim_end_matches('%')
            .trim_end()
            .parse::<f64>()
            .ok()
    };
    let (Some(low), Some(high)) = (number("/interval/0"), number("/interval/1")) else {
        return Ok(());
    };
    let outside = |value: f64| !(low..=high).contains(&value);
    if low > high || number("/value").is_some_and(outside) {
        return Err(format!(
            "{place}.interval: must be [lower, upper] around the value"
        ));
    }
    Ok(())
}

/// A file of training rows: its name, digest and size. No row of it is kept.
#[derive(Debug)]
pub(in crate::cli::bundle) struct TrainingData {
    name: String,
    sha256: String,
    rows: u64,
    columns: usize,
}

impl TrainingData {
    /// Reads a CSV file with a heading.
    pub(in crate::cli::bundle) fn read(path: &Path) -> Result<Self, Failure> {
        let failed = |reason: &dyn std::fmt::Display| {
            Failure::Environment(anyhow!("{}: {reason}", path.display()))
        };
        let file = named_file::open(path).map_err(|error| failed(&error))?;
        let mut hashing = Hashing {
            file,
            context: Context::new(&SHA256),
            since_record: 0,
        };
        let mut reader = csv::Reader::from_reader(&mut hashing);
        let failed_csv = |error: &csv::Error| {
            if let csv::ErrorKind::Io(error) = error.kind() {
                return failed(error);
            }
            // The reader's own message may repeat what is in the row.
            failed(&NOT_CSV)
        };
        let columns = reader.headers().map_err(|e| failed_csv(&e))?.len();
        let (mut rows, mut row) = (0, csv::ByteRecord::new());
        while reader
            .read_byte_record(&mut row)
            .map_err(|e| failed_csv(&e))?
        {
            rows += 1;
            reader.get_mut().since_record = 0;
        }
        drop(reader);
        if rows == 0 {
            let reason = anyhow!("{}: no rows below its heading", path.display());
            return Err(Failure::DoesNotHold(reason));
        }
        let name = path.file_name().unwrap_or_default();
        Ok(Self {
            name: name.to_string_lossy().into_owned(),
            sha256: hex::encode(hashing.context.finish()),
            rows,
            columns,
        })
    }

    /// The name of a file whose content another has too.
    pub(in crate::cli::bundle) fn repeated(data: &[Self]) -> Option<&str> {
        let before = |index: usize, sha256: &str| {
            data.iter().take(index).any(|other| other.sha256 == sha256)
        };
        let mut all = data.iter().enumerate();
        all.find(|(index, set)| before(*index, &set.sha256))
            .map(|(_, set)| set.name.as_str())
    }

    pub(super) fn reference(&self) -> String {
        format!("data:{}", self.sha256)
    }

    pub(super) fn component(&self, provenance: &Provenance) -> Value {
        let counted = format!("{} rows, {} columns", self.rows, self.columns);
        let description = match &provenance.data {
            Some(words) => format!("{words} ({counted})"),
            None => counted,
        };
        json!({
            "type": "data",
            "bom-ref": self.reference(),
            "name": self.name,
            "hashes": [{"alg": "SHA-256", "content": self.sha256}],
            "data": [{"type": "dataset", "name": self.name, "description": description}],
            "properties": [
                {"name": "vitalgate:data:rows", "value": self.rows.to_string()},
                {"name": "vitalgate:data:columns", "value": self.columns.to_string()},
            ],
        })
    }
}

const NOT_CSV: &str = "not CSV with a heading and rows of equal length";

/// The longest row, in bytes; one with an open quotation mark could be the whole file.
const LONGEST_RECORD: u64 = 1 << 20;

/// Hashes what is read.
struct Hashing {
    file: File,
    context: Context,
    since_record: u64,
}

impl Read for Hashing {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read(buffer)?;
        self.since_record += count as u64;
        if self.since_record > LONGEST_RECORD {
            let reason = format!("a record of more than {LONGEST_RECORD} bytes");
            return Err(io::Error::other(reason));
        }
        self.context.update(buffer.get(..count).unwrap_or_default());
        Ok(count)
    }
}
