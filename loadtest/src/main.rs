//! Open-loop load generator for vitalgate (skeleton).
fn main() {}
