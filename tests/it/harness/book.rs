//! Keeps the books: which connection must have left which records.

use std::{collections::BTreeMap, net::SocketAddr};

use serde_json::Value;

use super::Server;

pub(crate) type Record = Value;

/// The codes of a record.
pub(crate) fn codes(record: &Record) -> Vec<&str> {
    let codes = record["codes"].as_array().unwrap();
    codes.iter().map(|c| c.as_str().unwrap()).collect()
}

/// What each connection, known by its address, is expected to have left: a line a record.
#[derive(Default)]
pub(crate) struct Book {
    expected: BTreeMap<String, (String, Vec<String>)>,
}

impl Book {
    /// Expects these records of a connection, in this order: `"status CODE,CODE"`.
    pub(crate) fn expect(&mut self, case: &str, source: SocketAddr, records: &[&str]) {
        let lines = records.iter().map(|r| (*r).to_owned()).collect();
        let new = self
            .expected
            .insert(source.to_string(), (case.to_owned(), lines));
        assert!(new.is_none(), "{case}: the port was used twice");
    }

    /// Stops the server and compares every record it ever wrote.
    pub(crate) fn close(self, server: &mut Server) {
        server.stop();
        let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for record in server.records() {
            let line = format!("{} {}", record["status"], codes(&record).join(","));
            found
                .entry(record["source"].as_str().unwrap().to_owned())
                .or_default()
                .push(line.trim_end().to_owned());
        }
        for (source, (case, expected)) in self.expected {
            let records = found.remove(&source).unwrap_or_default();
            match records.len() {
                0..=20 => println!("{case}: records {records:?}"),
                n => println!("{case}: {n} records"),
            }
            assert_eq!(records, expected, "{case}");
        }
        assert!(found.is_empty(), "records of nobody: {found:?}");
    }
}
