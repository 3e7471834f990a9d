//! One patient's observations on their way through the stages.

use std::{fmt, sync::Arc};

use zeroize::{Zeroize, Zeroizing};

use crate::{
    audit::Subject,
    bundle::model::ModelSpec,
    consensus::Lost,
    disposition::ReviewReason,
    inference::{MemberOutput, Scored},
    phi::Phi,
    review::{Claim, Confirmed},
    screening::Oddness,
    units::Conversion,
    urgency::Priority,
};

/// A set of features, by index.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FeatureSet(u128);

impl FeatureSet {
    /// Adds a feature; `false` when it was in already.
    pub fn insert(&mut self, feature: usize) -> bool {
        let bit = 1u128 << (feature & 127);
        let fresh = self.0 & bit == 0;
        self.0 |= bit;
        fresh
    }

    /// Whether the feature is in.
    pub fn contains(self, feature: usize) -> bool {
        self.0 & (1u128 << (feature & 127)) != 0
    }

    /// How many are in.
    pub fn len(self) -> u32 {
        self.0.count_ones()
    }

    /// Whether none is in.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The members, ascending.
    pub fn iter(self) -> impl Iterator<Item = usize> {
        // Each step takes the lowest off.
        let present = |set: u128| (set != 0).then_some(set);
        std::iter::successors(present(self.0), move |set| present(set & (set - 1)))
            .map(|set| set.trailing_zeros() as usize)
    }
}

/// The one allocation that a patient's values live in; every stage type wraps a `Box<Row>`,
/// so that moving a request from stage to stage copies a pointer and never a value.
///
/// Not `Clone`, not `Serialize`; `Debug` shows no value; wiped when dropped.
pub struct Row {
    spec: Arc<ModelSpec>,
    values: Box<[f64]>,
    inputs: Box<[f32]>,
    outputs: Box<[MemberOutput]>,
    /// Copies of the inputs, each pushed within its uncertainty; what the networks are given next,
    /// if there are any.
    pushed: Vec<f32>,
    pushed_outputs: Vec<MemberOutput>,
    /// For each converted value its feature, how it was converted, and the unit it was sent in.
    submitted: Vec<(usize, Conversion, Phi<String>)>,
    /// Values outside their possible range as they were sent: rounding must not mend them.
    pub(crate) impossible: FeatureSet,
    /// Values rounded to measurement precision.
    pub(crate) rounded: FeatureSet,
    /// Values converted from another unit.
    pub(crate) converted: FeatureSet,
    /// Values not measured, filled in as the bundle declares.
    pub(crate) imputed: FeatureSet,
    /// How odd the row is, once it was compared with the model's patients.
    pub(crate) oddness: Option<Phi<Oddness>>,
    /// Largest difference of two members' logits, once they answered.
    pub(crate) spread: Option<Phi<f64>>,
    /// The networks that gave no usable output, once they ran.
    pub(crate) lost: Box<[Lost]>,
    /// What the screens found so far, for a person to look at.
    pub(crate) reasons: Vec<ReviewReason>,
    /// Whether the networks are asked about it before others.
    pub(crate) priority: Priority,
    /// Whom it is about, as the caller named it.
    pub(crate) subject: Option<Subject>,
    /// The review that the caller wants to override, unchecked.
    pub(crate) claim: Option<Claim>,
    /// Its override, checked.
    pub(crate) confirmed: Option<Confirmed>,
}

impl Row {
    /// A row with nothing measured.
    pub(crate) fn new(spec: Arc<ModelSpec>) -> Box<Self> {
        let (features, members) = (spec.features.len(), spec.members.len());
        Box::new(Self {
            spec,
            values: vec![f64::NAN; features].into_boxed_slice(),
            inputs: vec![f32::NAN; features].into_boxed_slice(),
            outputs: vec![MemberOutput::Failed; members].into_boxed_slice(),
            pushed: Vec::new(),
            pushed_outputs: Vec::new(),
            submitted: Vec::new(),
            impossible: FeatureSet::default(),
            rounded: FeatureSet::default(),
            converted: FeatureSet::default(),
            imputed: FeatureSet::default(),
            oddness: None,
            spread: None,
            lost: Box::default(),
            reasons: Vec::new(),
            priority: Priority::default(),
            subject: None,
            claim: None,
            confirmed: None,
        })
    }

    /// The rules this row is judged by.
    pub fn spec(&self) -> &Arc<ModelSpec> {
        &self.spec
    }

    /// Values in declared units, NaN where not measured.
    pub(crate) fn values(&self) -> &[f64] {
        &self.values
    }

    /// Sets a measured value, in the declared unit.
    pub(crate) fn set(&mut self, feature: usize, value: f64) {
        if let Some(slot) = self.values.get_mut(feature) {
            // Adding zero turns -0.0 into 0.0: one value, one fingerprint.
            *slot = value + 0.0;
        }
    }

    /// Feeds a keyed hash what the row is: the model's name and every value, in declared units,
    /// after rounding.
    pub(crate) fn feed(&self, hash: impl FnOnce(&[u8])) {
        let name = self.spec.name.as_bytes();
        // All that will be in it, so that it never moves.
        let length = name.len() + 1 + 8 * self.values.len();
        let mut bytes = Zeroizing::new(Vec::with_capacity(length));
        bytes.extend_from_slice(name);
        bytes.push(0);
        for (index, value) in self.values.iter().enumerate() {
            // However "not measured" was written, it is one pattern of bits, and not that of the
            // value filled in: who measures that value knows more.
            let missing = value.is_nan() || self.imputed.contains(index);
            let value = if missing { f64::NAN } else { *value };
            bytes.extend_from_slice(&value.to_bits().to_be_bytes());
        }
        hash(&bytes);
    }

    /// Notes that a value was sent in another unit than the declared one.
    pub(crate) fn convert(&mut self, feature: usize, conversion: Conversion, unit: Phi<String>) {
        self.converted.insert(feature);
        self.submitted.push((feature, conversion, unit));
    }

    /// How a converted value was converted, and the unit it was sent in.
    pub(crate) fn submitted(&self, feature: usize) -> Option<(&Conversion, &str)> {
        let mut submitted = self.submitted.iter();
        let (_, conversion, unit) = submitted.find(|(index, ..)| *index == feature)?;
        Some((conversion, unit.expose()))
    }

    /// Fixes the networks' inputs from the values, once all are in.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the networks compute in float32"
    )]
    pub(crate) fn freeze_inputs(&mut self) {
        for (input, value) in self.inputs.iter_mut().zip(&self.values) {
            *input = *value as f32;
        }
    }

    /// The members' outputs, in the bundle's order.
    pub(crate) fn outputs(&self) -> &[MemberOutput] {
        &self.outputs
    }

    /// Gives the networks copies of this row next, one for each pattern of signs: of every value
    /// what `push` makes of it downwards, left alone, or upwards.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the networks compute in float32"
    )]
    pub(crate) fn push(&mut self, signs: &[&[i8]], push: impl Fn(usize, f64) -> [f64; 3]) {
        let features = self.values.len();
        self.pushed = vec![0.0; signs.len() * features];
        for (feature, value) in self.values.iter().enumerate() {
            let mut ways = push(feature, *value);
            let [down, same, up] = ways;
            let copies = self.pushed.iter_mut().skip(feature).step_by(features);
            for (pushed, signs) in copies.zip(signs) {
                let sign = signs.get(feature).copied().unwrap_or(0);
                *pushed = match sign.signum() {
                    -1 => down,
                    0 => same,
                    _ => up,
                } as f32;
            }
            ways.zeroize();
        }
        let outputs = signs.len() * self.spec.members.len();
        self.pushed_outputs = vec![MemberOutput::Failed; outputs];
    }

    /// The members' outputs for each pushed copy.
    pub(crate) fn pushed_outputs(&self) -> impl Iterator<Item = &[MemberOutput]> {
        self.pushed_outputs
            .chunks_exact(self.spec.members.len().max(1))
    }
}

impl Scored for Row {
    fn inputs(&self) -> &[f32] {
        if self.pushed.is_empty() {
            &self.inputs
        } else {
            &self.pushed
        }
    }

    fn priority(&self) -> Priority {
        self.priority
    }

    fn set_output(&mut self, member: usize, row: usize, output: MemberOutput) {
        let slot = if self.pushed.is_empty() {
            self.outputs.get_mut(member)
        } else {
            let members = self.spec.members.len();
            self.pushed_outputs.get_mut(row * members + member)
        };
        if let Some(slot) = slot {
            *slot = output;
        }
    }
}

impl Drop for Row {
    fn drop(&mut self) {
        self.values.zeroize();
        self.inputs.zeroize();
        self.outputs.fill(MemberOutput::Failed);
        self.pushed.zeroize();
        self.pushed_outputs.fill(MemberOutput::Failed);
    }
}

impl fmt::Debug for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Row")
            .field("model", &self.spec.name)
            .finish_non_exhaustive()
    }
}
