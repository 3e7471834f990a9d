//! Proof that no stage of the request path can be skipped and nothing of a patient printed:
//! each example is a shortcut, and does not compile. (Only a nightly `rustdoc` compares the error
//! with the code that an example names.)
//!
//! The types exist and can be named,
//! ```
//! use vitalgate::{
//!     admission::Admission, audit::Recorded, authz::Grant, clinical::{Consistent, Plausible},
//!     consensus::{Consensus, Scores}, hardening::Hardened, phi::Phi, receive::Received,
//!     review::Cleared, row::Row, schema::Observed, screening::InDistribution,
//! };
//! fn named(_: Admission, _: Recorded, _: Grant, _: Received, _: Observed, _: Plausible) {}
//! fn compared(_: InDistribution) {}
//! fn named_too(_: Consistent, _: Cleared, _: Scores, _: Consensus, _: Hardened, _: Box<Row>) {}
//! let datum = Phi::new(37.2);
//! assert_eq!(format!("{datum:?}"), "Phi(…)");
//! ```
//! but only their own stage makes them: not a parsed body,
//! ```compile_fail,E0603
//! let observed = vitalgate::schema::Observed(todo!());
//! ```
//! not a plausible or a consistent row,
//! ```compile_fail,E0603
//! let plausible = vitalgate::clinical::Plausible(todo!());
//! ```
//! ```compile_fail,E0603
//! let consistent = vitalgate::clinical::Consistent(todo!());
//! ```
//! nor one that was compared with the model's patients,
//! ```compile_fail,E0603
//! let screened = vitalgate::screening::InDistribution(todo!());
//! ```
//! not a clearance for inference,
//! ```compile_fail,E0451
//! let cleared = vitalgate::review::Cleared { row: todo!(), clearance: todo!() };
//! ```
//! not the members' agreement,
//! ```compile_fail,E0451
//! let consensus = vitalgate::consensus::Consensus { row: todo!(), clearance: todo!(), mean: todo!() };
//! ```
//! not a prediction,
//! ```compile_fail,E0451
//! fn another(hardened: vitalgate::hardening::Hardened) -> vitalgate::hardening::Hardened {
//!     vitalgate::hardening::Hardened { probability: todo!(), ..hardened }
//! }
//! ```
//! not a recorded answer,
//! ```compile_fail,E0603
//! let recorded = vitalgate::audit::Recorded(todo!());
//! ```
//! nor permission and a place.
//! ```compile_fail,E0451
//! let grant = vitalgate::authz::Grant { principal: todo!(), action: todo!(), model: todo!() };
//! ```
//! ```compile_fail,E0451
//! let admission = vitalgate::admission::Admission {
//!     model: todo!(), account: todo!(), _own: todo!(), _place: todo!()
//! };
//! ```
//! Not that a request was counted against its caller's rate, nor that its row was paid for, nor
//! that nobody stopped its caller or model,
//! ```compile_fail,E0451
//! let paced = vitalgate::admission::Paced { account: todo!() };
//! ```
//! ```compile_fail,E0451
//! let charged = vitalgate::extraction::Charged { detail: todo!() };
//! ```
//! ```compile_fail,E0423
//! let uncontained = vitalgate::containment::Uncontained(());
//! ```
//! without which no prediction is released.
//! ```compile_fail,E0061
//! # use vitalgate::{consensus::Consensus, hardening};
//! fn unpaid(consensus: Consensus) {
//!     let _ = hardening::release(consensus);
//! }
//! ```
//!
//! Nor is there a model that serves without an approval, an approval without a policy in force, or
//! a policy in force that was not held against the serials seen before.
//! ```compile_fail,E0451
//! fn another(approved: vitalgate::bundle::Approved) -> vitalgate::bundle::Approved {
//!     vitalgate::bundle::Approved { digest: todo!(), ..approved }
//! }
//! ```
//! ```compile_fail,E0603
//! fn at_once(policy: vitalgate::bundle::policy::Policy) -> vitalgate::bundle::Authority {
//!     vitalgate::bundle::Authority::Policy(Box::new(vitalgate::bundle::policy::InForce(policy)))
//! }
//! ```
//! ```compile_fail,E0308
//! fn without(policy: vitalgate::bundle::policy::Policy) -> vitalgate::bundle::Authority {
//!     vitalgate::bundle::Authority::Policy(Box::new(policy))
//! }
//! ```
//!
//! A stage takes what the one before it made and nothing else, and takes it once.
//! ```compile_fail,E0308
//! # use vitalgate::{clinical, schema::Observed};
//! fn without_ranges(observed: Observed) {
//!     let _ = clinical::check_consistency(observed);
//! }
//! ```
//! ```compile_fail,E0382
//! # use vitalgate::{clinical, schema::Observed};
//! fn twice(observed: Observed) {
//!     let _ = clinical::check_ranges(observed);
//!     let _ = clinical::check_ranges(observed);
//! }
//! ```
//!
//! ```compile_fail,E0308
//! # use vitalgate::{clinical::Consistent, review};
//! fn without_comparison(consistent: Consistent) {
//!     let _ = review::clear(consistent);
//! }
//! ```
//!
//! A datum has no text, no copy and no serial form.
//! ```compile_fail,E0277
//! println!("{}", vitalgate::phi::Phi::new(37.2));
//! ```
//! ```compile_fail,E0599
//! let copy = vitalgate::phi::Phi::new(37.2).clone();
//! ```
//! ```compile_fail,E0277
//! let text = serde_json::to_string(&vitalgate::phi::Phi::new(37.2));
//! ```
//! ```compile_fail,E0277
//! fn copy(row: &vitalgate::row::Row) -> vitalgate::row::Row {
//!     vitalgate::row::Row::clone(row)
//! }
//! ```
