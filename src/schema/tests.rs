//! What a request body may be, against both demonstration models.

use std::sync::Arc;

use super::*;
use crate::specimens::{self, Body};

mod any_bytes;
mod numbers;
mod shape;
mod units;
mod unreadable;

/// The row of a body that must be accepted.
fn row(spec: &Arc<ModelSpec>, body: &Body) -> Box<Row> {
    match parse(spec, &body.bytes()) {
        Ok(observed) => observed.into_row(),
        Err(rejection) => panic!("rejected: {:?}", listed(&rejection)),
    }
}

fn icu_row(body: &Body) -> Box<Row> {
    row(&specimens::icu(), body)
}

fn value(row: &Row, feature: &str) -> f64 {
    row.values()[row.spec().by_name[feature]]
}

fn names(row: &Row, set: FeatureSet) -> Vec<&str> {
    set.iter()
        .map(|i| row.spec().features[i].name.as_str())
        .collect()
}

fn rejection(spec: &Arc<ModelSpec>, body: &[u8]) -> Rejection {
    parse(spec, body).expect_err("accepted")
}

fn listed(rejection: &Rejection) -> Vec<(&'static str, String)> {
    rejection
        .faults
        .iter()
        .map(|f| (f.code.as_str(), f.pointer.expose().clone()))
        .collect()
}

/// Codes and pointers of a body that must be rejected, in the order they are reported.
fn faults(body: &[u8]) -> Vec<(&'static str, String)> {
    listed(&rejection(&specimens::icu(), body))
}

fn one(code: &'static str, pointer: &str) -> Vec<(&'static str, String)> {
    vec![(code, pointer.to_owned())]
}

/// The faults of the patient with this JSON as the value of `feature`.
fn faults_of(feature: &str, json: &str) -> Vec<(&'static str, String)> {
    faults(&Body::icu().with(feature, json).bytes())
}
