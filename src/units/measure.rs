//! What a UCUM unit measures, and the conversion between two of them.

use super::UnitError;
use octofhir_ucum::{
    Case, EvalResult, Number, SpecialKind, UnitExpr, evaluate, lookup_unit, parse_expression,
};

/// Position of the gram in a UCUM dimension.
const GRAM: usize = 2;

/// Powers of ten that a measurement step can have.
const STEPS: [f64; 25] = [
    1e12, 1e11, 1e10, 1e9, 1e8, 1e7, 1e6, 1e5, 1e4, 1e3, 1e2, 1e1, 1.0, 1e-1, 1e-2, 1e-3, 1e-4,
    1e-5, 1e-6, 1e-7, 1e-8, 1e-9, 1e-10, 1e-11, 1e-12,
];

/// From a value in the submitted unit to one in the declared unit: a slope and an offset.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Conversion {
    slope: Slope,
    offset: f64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Slope {
    One,
    Times(f64),
    /// Division by a whole number, which keeps decimals clean: 34 % is 0.34, where a product
    /// with the binary 0.01 can miss by a bit.
    Over(f64),
}

impl Conversion {
    /// The submitted unit is the declared one, or another name for it.
    pub const IDENTITY: Self = Self {
        slope: Slope::One,
        offset: 0.0,
    };

    /// `None` unless both are ordinary numbers, so that no unit can make an infinity.
    fn new(ratio: Number, offset: Number) -> Option<Self> {
        let inverse = Number::ONE.checked_div(ratio)?.to_f64();
        let (ratio, offset) = (ratio.to_f64(), offset.to_f64());
        if !(ratio.is_normal() && inverse.is_normal() && offset.is_finite()) {
            return None;
        }
        // 28 digits were rounded on the way: allow for it, an f64 has 16.
        let slope = if (ratio - 1.0).abs() < f64::EPSILON {
            Slope::One
        } else if inverse > 1.0 && (inverse - inverse.round()).abs() < inverse * f64::EPSILON {
            Slope::Over(inverse.round())
        } else {
            Slope::Times(ratio)
        };
        Some(Self { slope, offset })
    }

    /// The value in the declared unit.
    pub fn apply(&self, value: f64) -> f64 {
        let scaled = match self.slope {
            Slope::One => value,
            Slope::Times(factor) => value * factor,
            Slope::Over(divisor) => value / divisor,
        };
        scaled + self.offset
    }

    /// Whether values stay as they are.
    pub fn is_identity(&self) -> bool {
        *self == Self::IDENTITY
    }

    /// The measurement step in the submitted unit: the largest power of ten not above
    /// `declared_step` expressed in that unit (1 mg/dL of glucose is 0.056 mmol/L, so 0.01);
    /// the declared step itself when nothing is converted.
    pub fn step(&self, declared_step: f64) -> f64 {
        let exact = match self.slope {
            Slope::One => return declared_step,
            Slope::Times(factor) => declared_step / factor,
            Slope::Over(divisor) => declared_step * divisor,
        };
        let reach = exact * (1.0 + 1e-9);
        STEPS
            .into_iter()
            .find(|&step| step <= reach)
            .unwrap_or(1e-12)
    }
}

/// What a feature declares about its substance.
#[derive(Clone, Debug)]
pub(super) struct Chemistry {
    /// g/mol.
    molar_mass: Option<Number>,
    /// Equivalents in a mole.
    valence: Option<Number>,
}

impl Chemistry {
    pub(super) fn new(molar_mass: Option<f64>, valence: Option<u32>) -> Result<Self, UnitError> {
        let molar_mass = molar_mass
            .map(|mass| Number::from_f64(mass).filter(|_| mass.is_normal() && mass > 0.0))
            .map(|mass| mass.ok_or(UnitError::MolarMass))
            .transpose()?;
        if valence == Some(0) {
            return Err(UnitError::Valence);
        }
        let valence = valence.map(|valence| Number::from_i64(i64::from(valence)));
        Ok(Self {
            molar_mass,
            valence,
        })
    }

    /// Moles in one gram, mole or equivalent, as the position in [`Measure::content`] says.
    fn moles(&self, content: usize) -> Option<Number> {
        match content {
            0 => Number::ONE.checked_div(self.molar_mass?),
            1 => Some(Number::ONE),
            2 => Number::ONE.checked_div(self.valence?),
            _ => None,
        }
    }
}

/// Exponents of one kind of amount above and below the solidus. Both are kept, because mmol/mol
/// is not a percentage of anything a laboratory calls percent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Exponents {
    above: i32,
    below: i32,
}

impl Exponents {
    fn add(&mut self, exponent: i32) {
        let side = if exponent > 0 {
            &mut self.above
        } else {
            &mut self.below
        };
        *side = side.saturating_add(exponent.saturating_abs());
    }

    fn net(self) -> i32 {
        self.above.saturating_sub(self.below)
    }

    fn cancelled(self) -> i32 {
        self.above.min(self.below)
    }
}

/// Which numbers hide in a unit: UCUM counts all of these as 6.02e23 of nothing in particular.
#[derive(Clone, Copy, Debug, Default)]
struct Amounts {
    moles: Exponents,
    equivalents: Exponents,
    osmoles: Exponents,
    /// Whether the unit has any symbol at all; one without (`1`, `{score}`) is a bare number.
    symbols: bool,
}

impl Amounts {
    /// Recursion is bounded by the length of the text, checked before parsing.
    fn collect(&mut self, expr: &UnitExpr, exponent: i32) {
        match expr {
            UnitExpr::Symbol(code) => {
                self.symbols = true;
                match lookup_unit(code, Case::Sensitive).map(|(_, atom)| atom.code) {
                    Some("mol" | "kat" | "U") => self.moles.add(exponent),
                    Some("eq") => self.equivalents.add(exponent),
                    Some("osm") => self.osmoles.add(exponent),
                    _ => {}
                }
            }
            UnitExpr::Numeric(_) | UnitExpr::Annotation(_) => {}
            UnitExpr::Annotated(inner, _) => self.collect(inner, exponent),
            UnitExpr::Power(inner, power) => self.collect(inner, exponent.saturating_mul(*power)),
            UnitExpr::Product(terms) => terms.iter().for_each(|term| self.collect(term, exponent)),
            UnitExpr::Quotient(above, below) => {
                self.collect(above, exponent);
                self.collect(below, exponent.saturating_neg());
            }
            UnitExpr::Reciprocal(inner) => self.collect(inner, exponent.saturating_neg()),
        }
    }
}

/// What a unit measures, and its size.
#[derive(Clone, Debug)]
pub(super) struct Measure {
    value: EvalResult,
    amounts: Amounts,
    /// A score or a grade (`{score}`): no part of it is a quantity that could be converted.
    score: bool,
}

impl Measure {
    /// Reads a UCUM unit of bounded length.
    pub(super) fn parse(unit: &str) -> Result<Self, UnitError> {
        let expr = parse_expression(unit).map_err(|_| UnitError::Unknown)?;
        let value = evaluate(&expr).map_err(|_| UnitError::Unknown)?;
        let mut amounts = Amounts::default();
        amounts.collect(&expr, 1);
        let score = matches!(expr, UnitExpr::Annotation(_));
        Ok(Self {
            value,
            amounts,
            score,
        })
    }

    /// The conversion to `declared`, if there is one that means something for a patient.
    pub(super) fn convert_to(&self, declared: &Self, chemistry: &Chemistry) -> Option<Conversion> {
        let (from, to) = (&self.value, &declared.value);
        if declared.score && self.amounts.symbols || from.arbitrary != to.arbitrary {
            return None;
        }
        if self.unconvertible() != declared.unconvertible() {
            return None;
        }
        if from == to && self.content() == declared.content() {
            return Some(Conversion::IDENTITY);
        }
        if declared.score {
            return None;
        }
        let same_length_and_time = (0..7)
            .filter(|&base| base != GRAM)
            .all(|base| from.dim.0.get(base) == to.dim.0.get(base));
        if !same_length_and_time {
            return None;
        }
        let (from_scale, from_offset) = affine(from)?;
        let (to_scale, to_offset) = affine(to)?;
        // (scale × value + offset) × factor is the value in base units, on both sides.
        let size = from.factor.checked_div(to.factor)?;
        let ratio = self.substance(declared, chemistry)?.checked_mul(size)?;
        let slope = ratio.checked_mul(from_scale)?.checked_div(to_scale)?;
        let offset = from_offset.checked_mul(ratio)?.checked_sub(to_offset)?;
        Conversion::new(slope, offset.checked_div(to_scale)?)
    }

    /// Exponents of gram, mole and equivalent, which a substance relates to each other.
    fn content(&self) -> [i32; 3] {
        let grams = self
            .value
            .dim
            .0
            .get(GRAM)
            .map_or(0, |&exponent| i32::from(exponent));
        [
            grams,
            self.amounts.moles.net(),
            self.amounts.equivalents.net(),
        ]
    }

    /// What must be the same on both sides, whatever the substance.
    fn unconvertible(&self) -> [i32; 4] {
        let Amounts {
            moles,
            equivalents,
            osmoles,
            ..
        } = self.amounts;
        [
            moles.cancelled(),
            equivalents.cancelled(),
            osmoles.above,
            osmoles.below,
        ]
    }

    /// The factor that exchanges one gram, mole or equivalent for another of the three.
    fn substance(&self, declared: &Self, chemistry: &Chemistry) -> Option<Number> {
        let (from, to) = (self.content(), declared.content());
        let (mut lost, mut gained, mut avogadro) = (None, None, 0);
        for (kind, (from, to)) in from.into_iter().zip(to).enumerate() {
            let change = to.saturating_sub(from);
            match change {
                0 => continue,
                -1 if lost.is_none() => lost = Some(kind),
                1 if gained.is_none() => gained = Some(kind),
                _ => return None,
            }
            // UCUM's mole is Avogadro's number; a gram is a gram.
            avogadro += if kind == 0 { 0 } else { change };
        }
        match (lost, gained) {
            (None, None) => Some(Number::ONE),
            (Some(lost), Some(gained)) => Number::parse("6.02214076e23")?
                .checked_powi(avogadro)?
                .checked_mul(chemistry.moles(lost)?)?
                .checked_div(chemistry.moles(gained)?),
            (Some(_), None) | (None, Some(_)) => None,
        }
    }
}

/// Scale and offset of a proper unit or a temperature; logarithmic units (pH) have none, and are
/// accepted as they are only.
fn affine(value: &EvalResult) -> Option<(Number, Number)> {
    let Some(special) = value.special else {
        return Some((Number::ONE, Number::ZERO));
    };
    let offset = if special.unit.special == SpecialKind::Celsius {
        "273.15"
    } else if special.unit.special == SpecialKind::Fahrenheit {
        "459.67"
    } else {
        return None;
    };
    Some((special.scale, Number::parse(offset)?))
}
