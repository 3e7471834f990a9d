//! Units of measure: from the unit a client wrote to the unit a feature is declared in.
//!
//! Declared units are UCUM. Submitted units may also be what people write (`bpm`, `mmHg`,
//! `K/uL`): a table of spellings is filled for each declared unit when a model is loaded, so a
//! known spelling costs one search. Anything else goes to the UCUM parser, once it is at most
//! [`MAX_UNIT_BYTES`] long and printable ASCII, and only then is case forgiven, since in UCUM
//! `Mg` and `mg` are nine orders of magnitude apart.
//!
//! UCUM alone is too generous for a patient: there a mole is a number, so `mmol/L`, `meq/L` and
//! `10*9/L` would all convert. Here amounts of substance convert to equivalents only with a
//! valence, to mass only with a molar mass, and to counts never. Nor does what cancels vanish:
//! `ug/kg/min` is no frequency. A number in a submitted unit is read only where it has one
//! meaning: `103/uL` may be a thousand per microlitre that lost its raised digit.

mod measure;
mod parts;
mod rounding;
mod spelling;
mod symbols;
#[cfg(test)]
mod tests;

pub use measure::Conversion;
pub use rounding::{Rounded, round_to_step};
pub use symbols::print_symbol;

use measure::{Chemistry, Measure};

/// Longest unit that is read, in bytes.
pub const MAX_UNIT_BYTES: usize = 32;

/// How many units [`DeclaredUnit::accepted_examples`] names at most.
const EXAMPLES: usize = 5;

/// Why a unit was not accepted. It never holds the text: that came from the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnitError {
    /// Neither a UCUM unit nor a known spelling of one.
    #[error("the unit is not known")]
    Unknown,
    /// A unit of something else, or a mass for a mole without a molar mass.
    #[error("the unit does not convert to the declared unit")]
    NotCommensurable,
    /// More than [`MAX_UNIT_BYTES`].
    #[error("the unit is longer than {MAX_UNIT_BYTES} bytes")]
    TooLong,
    /// A declared molar mass that is no positive number.
    #[error("the molar mass must be a positive number of grams per mole")]
    MolarMass,
    /// A declared valence of zero.
    #[error("the valence must be at least 1")]
    Valence,
}

/// A feature's declared unit and every spelling accepted for it, made when a model is loaded.
#[derive(Clone, Debug)]
pub struct DeclaredUnit {
    code: String,
    measure: Measure,
    chemistry: Chemistry,
    /// Accepted spellings, sorted.
    exact: Vec<(&'static str, Conversion)>,
    /// The same in lower case, without those that two different units share, sorted.
    folded: Vec<(String, Conversion)>,
    examples: Vec<String>,
}

impl DeclaredUnit {
    /// Reads a declared UCUM unit; `molar_mass` in g/mol lets masses convert to moles, `valence`
    /// moles to equivalents.
    ///
    /// # Errors
    /// A unit that is not UCUM, or that people would read otherwise than UCUM does (`C` is the
    /// coulomb, `K/uL` a kelvin per microlitre); a molar mass or a valence that is not positive.
    pub fn parse(
        unit: &str,
        molar_mass: Option<f64>,
        valence: Option<u32>,
    ) -> Result<Self, UnitError> {
        if unit.len() > MAX_UNIT_BYTES {
            return Err(UnitError::TooLong);
        }
        let measure = Measure::parse(unit)?;
        if spelling::read_otherwise(unit, &measure) {
            return Err(UnitError::Unknown);
        }
        let chemistry = Chemistry::new(molar_mass, valence)?;
        let mut exact = Vec::new();
        let mut examples = vec![unit.to_owned()];
        for known in spelling::known() {
            let Some(conversion) = known.measure.convert_to(&measure, &chemistry) else {
                continue;
            };
            // No unit at all means "as declared" only where there is nothing to convert: 34
            // without a unit is no proof of a fraction rather than a percentage.
            let spellings = known.spellings.iter().map(String::as_str);
            exact.extend(
                spellings
                    .filter(|text| !text.is_empty() || conversion.is_identity())
                    .map(|text| (text, conversion)),
            );
            // A score is an example of no other number.
            let names = known.code != unit && !known.code.starts_with('{');
            if names && examples.len() < EXAMPLES {
                examples.push(known.code.clone());
            }
        }
        exact.sort_by_key(|&(text, _)| text);
        exact.dedup_by_key(|&mut (text, _)| text);
        let folded = fold(&exact);
        Ok(Self {
            code: unit.to_owned(),
            measure,
            chemistry,
            exact,
            folded,
            examples,
        })
    }

    /// The declared unit as the bundle writes it.
    pub fn code(&self) -> &str {
        &self.code
    }

    /// A few units that are accepted, the declared one first: what to say was expected.
    pub fn accepted_examples(&self) -> &[String] {
        &self.examples
    }

    /// Conversions from the units of [`DeclaredUnit::accepted_examples`] in which the same
    /// quantity has another number, each once.
    pub fn other_units(&self) -> Vec<Conversion> {
        let mut found: Vec<Conversion> = Vec::new();
        for unit in self.accepted_examples() {
            if let Ok(conversion) = self.convert(unit)
                && (conversion.apply(1.0) - 1.0).abs() > 1e-6
                && !found.contains(&conversion)
            {
                found.push(conversion);
            }
        }
        found
    }

    /// How to turn a value in the `submitted` unit into one in the declared unit.
    ///
    /// # Errors
    /// [`UnitError::TooLong`], [`UnitError::Unknown`] or [`UnitError::NotCommensurable`].
    pub fn convert(&self, submitted: &str) -> Result<Conversion, UnitError> {
        if submitted.len() > MAX_UNIT_BYTES {
            return Err(UnitError::TooLong);
        }
        if submitted == self.code {
            return Ok(Conversion::IDENTITY);
        }
        if let Some(conversion) = find(&self.exact, submitted) {
            return Ok(conversion);
        }
        let plain = spelling::plain(submitted).ok_or(UnitError::Unknown)?;
        let joined = plain.replace(' ', "");
        if let Some(conversion) = find(&self.exact, &joined) {
            return Ok(conversion);
        }
        // A spelling means one thing everywhere: `G/L` is never gauss per litre.
        if spelling::is_known(&joined) {
            return Err(UnitError::NotCommensurable);
        }
        match Measure::parse_submitted(&spelling::as_ucum(&plain)) {
            Ok(measure) => measure
                .convert_to(&self.measure, &self.chemistry)
                .ok_or(UnitError::NotCommensurable),
            Err(error) => find(&self.folded, &joined.to_ascii_lowercase()).ok_or(error),
        }
    }
}

/// Finds `text` in a table sorted by its first column.
fn find<T: AsRef<str>>(table: &[(T, Conversion)], text: &str) -> Option<Conversion> {
    let at = table
        .binary_search_by(|(known, _)| known.as_ref().cmp(text))
        .ok()?;
    table.get(at).map(|&(_, conversion)| conversion)
}

/// The spellings in lower case; one that would have two meanings (`mM` and `mm`) has none.
fn fold(exact: &[(&'static str, Conversion)]) -> Vec<(String, Conversion)> {
    let mut folded: Vec<(String, Conversion)> = exact
        .iter()
        .map(|&(text, conversion)| (text.to_ascii_lowercase(), conversion))
        .collect();
    folded.sort_by(|a, b| a.0.cmp(&b.0));
    folded
        .chunk_by(|a, b| a.0 == b.0)
        .filter(|same| {
            same.windows(2)
                .all(|pair| matches!(pair, [a, b] if a.1 == b.1))
        })
        .filter_map(|same| same.first().cloned())
        .collect()
}
