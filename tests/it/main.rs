//! The promises of the server, proved from outside: the real binary, real sockets, real
//! certificates, the real log. One file a promise.
#![cfg(test)]

#[cfg(test)]
mod access;
#[cfg(test)]
mod admin_client;
#[cfg(test)]
mod any_bytes;
#[cfg(test)]
mod audit;
#[cfg(test)]
mod audit_fhir;
#[cfg(test)]
mod audit_killed;
#[cfg(test)]
mod audit_shipping;
#[cfg(test)]
mod audit_tampering;
#[cfg(test)]
mod canary;
#[cfg(test)]
mod concurrency;
#[cfg(test)]
mod console;
#[cfg(test)]
mod containment;
#[cfg(test)]
mod deployment;
#[cfg(test)]
mod deprovisioning;
#[cfg(test)]
mod describe;
#[cfg(test)]
mod distribution;
#[cfg(test)]
mod documents;
#[cfg(test)]
mod drain;
#[cfg(test)]
mod drift;
#[cfg(test)]
mod extraction;
#[cfg(test)]
mod fleet;
#[cfg(test)]
mod harness;
#[cfg(test)]
mod identity;
#[cfg(test)]
mod identity_provider;
#[cfg(test)]
mod incident_response;
#[cfg(test)]
mod lost_member;
#[cfg(test)]
mod metrics;
#[cfg(test)]
mod odd_inputs;
#[cfg(test)]
mod otlp;
#[cfg(test)]
mod overload;
#[cfg(test)]
mod overriding;
#[cfg(test)]
mod phi;
#[cfg(test)]
mod probing;
#[cfg(test)]
mod prometheus;
#[cfg(test)]
mod readme;
#[cfg(test)]
mod reuse;
#[cfg(test)]
mod smuggling;
#[cfg(test)]
mod smuggling_splits;
#[cfg(test)]
mod stability;
#[cfg(test)]
mod startup;
#[cfg(test)]
mod tokens;
#[cfg(test)]
mod trace;
