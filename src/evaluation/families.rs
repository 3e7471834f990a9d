//! Ways in which values go wrong between a patient and a model.
//!
//! Everything is made in clinical units from the rows that are judged, by code that shares
//! nothing with what a screen is trained on. Units come from the bundle's own declarations: the
//! number is in another unit of its kind and is read in the declared one.

mod corrupter;

pub use corrupter::Corrupter;

/// A way in which values go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// One number is in another unit than the one it is read in.
    Unit,
    /// One decimal point is a place too far left or right.
    Slip,
    /// Two values stand in each other's fields.
    Swap,
    /// One value is another patient's.
    One,
    /// Three values are other patients', each of a different one.
    Three,
    /// Half of the values are one other patient's.
    Half,
    /// Every value is another patient's, each of a different one.
    Shuffled,
    /// Two values lie anywhere in their expected range.
    Uniform,
    /// A third of the values are the population's medians: devices that are stuck.
    Stuck,
    /// Four values have the spread of the population added.
    Noise,
    /// Two neighbouring digits of one value have changed places.
    Transposed,
    /// Three to five neighbouring values have moved on by one field.
    Shifted,
    /// One value lies at an end of its expected range, as of a sensor at its limit.
    Saturated,
}

/// Whether a screen's fit has seen a family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Seen {
    /// Nothing like it is made in fitting.
    HeldOut,
    /// Fitting replaces values by other patients', as this family does.
    Generic,
    /// Fitting made this very family (`fit --templates`).
    Template,
}

impl Family {
    /// All, in the order of reports.
    pub const ALL: [Self; 13] = [
        Self::Unit,
        Self::Slip,
        Self::Swap,
        Self::One,
        Self::Three,
        Self::Half,
        Self::Shuffled,
        Self::Uniform,
        Self::Stuck,
        Self::Noise,
        Self::Transposed,
        Self::Shifted,
        Self::Saturated,
    ];

    /// Stable name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unit => "unit_error",
            Self::Slip => "decimal_slip",
            Self::Swap => "field_swap",
            Self::One => "one_replaced",
            Self::Three => "three_replaced",
            Self::Half => "half_replaced",
            Self::Shuffled => "shuffled",
            Self::Uniform => "uniform",
            Self::Stuck => "stuck",
            Self::Noise => "noise",
            Self::Transposed => "digits_transposed",
            Self::Shifted => "columns_shifted",
            Self::Saturated => "saturated",
        }
    }

    /// For people.
    pub fn title(self) -> &'static str {
        match self {
            Self::Unit => "number in another unit",
            Self::Slip => "decimal point slipped",
            Self::Swap => "two fields swapped",
            Self::One => "one value of another patient",
            Self::Three => "three values of others",
            Self::Half => "half of another patient",
            Self::Shuffled => "all values shuffled",
            Self::Uniform => "two values anywhere in range",
            Self::Stuck => "a third stuck at the median",
            Self::Noise => "noise on four values",
            Self::Transposed => "digits transposed",
            Self::Shifted => "columns shifted by one",
            Self::Saturated => "sensor at its limit",
        }
    }

    /// Whether fitting makes something like it; `templates` as the reference records it.
    pub fn seen(self, templates: bool) -> Seen {
        match self {
            Self::Unit | Self::Slip | Self::Swap if templates => Seen::Template,
            Self::One | Self::Three | Self::Half | Self::Shuffled => Seen::Generic,
            Self::Unit
            | Self::Slip
            | Self::Swap
            | Self::Uniform
            | Self::Stuck
            | Self::Noise
            | Self::Transposed
            | Self::Shifted
            | Self::Saturated => Seen::HeldOut,
        }
    }
}
