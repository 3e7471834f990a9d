//! What a UCUM unit measures, and the conversion between two of them.

use super::{
    UnitError,
    parts::{GRAM, Parts, Written, plain_factors},
};
use octofhir_ucum::{EvalResult, Number, SpecialKind, UnitExpr, evaluate, parse_expression};

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

    /// The value in the submitted unit of one in the declared unit.
    pub fn invert(&self, value: f64) -> f64 {
        let value = value - self.offset;
        match self.slope {
            Slope::One => value,
            Slope::Times(factor) => value / factor,
            Slope::Over(divisor) => value * divisor,
        }
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

/// What a unit measures, and its size.
#[derive(Clone, Debug)]
pub(super) struct Measure {
    value: EvalResult,
    parts: Parts,
    /// A score or a grade (`{score}`): no part of it is a quantity that could be converted.
    score: bool,
    /// Whether every number in it is one that cannot be read otherwise.
    plain_factors: bool,
}

impl Measure {
    /// Reads a UCUM unit of bounded length.
    pub(super) fn parse(unit: &str) -> Result<Self, UnitError> {
        let expr = parse_expression(unit).map_err(|_| UnitError::Unknown)?;
        let value = evaluate(&expr).map_err(|_| UnitError::Unknown)?;
        let score = matches!(expr, UnitExpr::Annotation(_));
        Ok(Self {
            value,
            parts: Parts::of(&expr),
            score,
            plain_factors: plain_factors(&expr),
        })
    }

    /// Reads a unit that a client wrote, who may have lost a raised digit on the way: `103/uL`
    /// is ten to the third far more often than 103, so nobody can say which it is.
    pub(super) fn parse_submitted(unit: &str) -> Result<Self, UnitError> {
        let measure = Self::parse(unit)?;
        if measure.plain_factors {
            Ok(measure)
        } else {
            Err(UnitError::Unknown)
        }
    }

    /// The conversion to `declared`, if there is one that means something for a patient.
    pub(super) fn convert_to(&self, declared: &Self, chemistry: &Chemistry) -> Option<Conversion> {
        let (from, to) = (&self.value, &declared.value);
        if declared.score && self.parts.symbols || from.arbitrary != to.arbitrary {
            return None;
        }
        let proportions = declared.is_fraction() && (self.is_fraction() || self.is_bare());
        if !proportions && self.parts.written() != declared.parts.written() {
            return None;
        }
        if from == to && self.content() == declared.content() {
            return Some(Conversion::IDENTITY);
        }
        // A score is no part of anything. What is declared as 1 may be a boolean or a count, of
        // which there is no hundredth.
        if self.score || declared.score || declared.is_bare() && to.factor == Number::ONE {
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

    /// A number with no more to it: `1`, `{score}`, `10*-2`.
    fn is_bare(&self) -> bool {
        self.value.is_scalar() && self.parts.written() == Written::default()
    }

    /// A number that is a part of a whole as laboratories write it: `%`, `L/L`.
    fn is_fraction(&self) -> bool {
        let written = self.parts.written();
        self.value.is_scalar()
            && (written == Written::PARTS
                || written == Written::VOLUMES && self.value.factor == Number::ONE)
    }

    /// Exponents of gram, mole and equivalent, which a substance relates to each other.
    fn content(&self) -> [i32; 3] {
        self.parts.content()
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
