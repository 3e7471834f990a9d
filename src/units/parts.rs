//! The parts a unit is written with. UCUM cancels them (`ug/kg/min` is a frequency there); for a
//! patient they say what was measured.

use octofhir_ucum::{Case, Number, UnitExpr, UnitRecord, lookup_unit};

/// Position of the metre in a UCUM dimension.
const METRE: usize = 0;
/// Position of the gram in a UCUM dimension.
pub(super) const GRAM: usize = 2;

/// UCUM's name for what `%` and `[ppm]` measure.
const FRACTION: &[(&str, i32)] = &[("fraction", 1)];

/// Exponents of one kind of amount above and below the solidus. Both are kept, because mmol/mol
/// is not a percentage of anything a laboratory calls percent.
#[derive(Clone, Copy, Debug, Default)]
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

    fn plus(self, other: Self) -> Self {
        Self {
            above: self.above.saturating_add(other.above),
            below: self.below.saturating_add(other.below),
        }
    }

    fn net(self) -> i32 {
        self.above.saturating_sub(self.below)
    }

    fn cancelled(self) -> i32 {
        self.above.min(self.below)
    }
}

/// What must be the same in two units, whatever the substance.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Written<'a> {
    /// Moles, equivalents, and grams with both, that cancel.
    matter: [i32; 3],
    /// Osmoles above and below the solidus.
    osmoles: [i32; 2],
    /// Metres, seconds and so on that cancel.
    bases: [i32; 7],
    /// What no dimension shows, and its exponent.
    labels: &'a [(&'static str, i32)],
}

impl Written<'static> {
    /// `%` and its like.
    pub(super) const PARTS: Self = Self {
        matter: [0; 3],
        osmoles: [0; 2],
        bases: [0; 7],
        labels: FRACTION,
    };
    /// `L/L`.
    pub(super) const VOLUMES: Self = Self {
        matter: [0; 3],
        osmoles: [0; 2],
        bases: [3, 0, 0, 0, 0, 0, 0],
        labels: &[],
    };
}

/// What a unit is written with.
#[derive(Clone, Debug, Default)]
pub(super) struct Parts {
    /// Which numbers hide in it: UCUM counts all three as 6.02e23 of nothing in particular.
    moles: Exponents,
    equivalents: Exponents,
    osmoles: Exponents,
    bases: [Exponents; 7],
    /// What no dimension shows (a bit, a becquerel, a body's surface), sorted.
    labels: Vec<(&'static str, i32)>,
    /// Whether the unit has any symbol at all; one without (`1`, `{score}`) is a bare number.
    pub(super) symbols: bool,
}

impl Parts {
    pub(super) fn of(expr: &UnitExpr) -> Self {
        let mut parts = Self::default();
        parts.collect(expr, 1);
        parts.labels.sort_unstable();
        parts
    }

    /// Exponents of gram, mole and equivalent.
    pub(super) fn content(&self) -> [i32; 3] {
        [self.grams(), self.moles, self.equivalents].map(Exponents::net)
    }

    pub(super) fn written(&self) -> Written<'_> {
        let matter = self.grams().plus(self.moles).plus(self.equivalents);
        // Force, pressure and energy are written in many ways (`N/m2`); they all have a mass.
        let bases = if self.grams().net() == 0 {
            self.bases.map(Exponents::cancelled)
        } else {
            [0; 7]
        };
        let bases = std::array::from_fn(|base| {
            let kept = bases.get(base).copied().unwrap_or(0);
            // Grams are matter, which a molar mass may turn into moles.
            if base == GRAM { 0 } else { kept }
        });
        Written {
            matter: [self.moles, self.equivalents, matter].map(Exponents::cancelled),
            osmoles: [self.osmoles.above, self.osmoles.below],
            bases,
            labels: &self.labels,
        }
    }

    fn grams(&self) -> Exponents {
        self.bases.get(GRAM).copied().unwrap_or_default()
    }

    /// Recursion is bounded by the length of the text, checked before parsing.
    fn collect(&mut self, expr: &UnitExpr, exponent: i32) {
        match expr {
            UnitExpr::Symbol(code) => {
                self.symbols = true;
                if let Some((_, atom)) = lookup_unit(code, Case::Sensitive) {
                    self.atom(atom, exponent);
                }
            }
            UnitExpr::Numeric(_) => {}
            UnitExpr::Annotation(text) => self.annotation(text, exponent),
            UnitExpr::Annotated(inner, text) => {
                self.annotation(text, exponent);
                self.collect(inner, exponent);
            }
            UnitExpr::Power(inner, power) => self.collect(inner, exponent.saturating_mul(*power)),
            UnitExpr::Product(terms) => terms.iter().for_each(|term| self.collect(term, exponent)),
            UnitExpr::Quotient(above, below) => {
                self.collect(above, exponent);
                self.collect(below, exponent.saturating_neg());
            }
            UnitExpr::Reciprocal(inner) => self.collect(inner, exponent.saturating_neg()),
        }
    }

    fn atom(&mut self, atom: &'static UnitRecord, exponent: i32) {
        for (base, &power) in self.bases.iter_mut().zip(&atom.dim.0) {
            base.add(exponent.saturating_mul(i32::from(power)));
        }
        match atom.code {
            "10*" | "10^" => {}
            "mol" | "kat" | "U" => self.moles.add(exponent),
            "eq" => self.equivalents.add(exponent),
            "osm" => self.osmoles.add(exponent),
            "Bq" | "Ci" | "Bd" => self.labels.push((atom.property, exponent)),
            _ if atom.dim.is_dimensionless() && atom.arbitrary.is_empty() => {
                self.labels.push((atom.property, exponent));
            }
            _ => {}
        }
    }

    /// The one annotation that changes the quantity: a clearance for a standard body.
    fn annotation(&mut self, text: &str, exponent: i32) {
        if text.contains("1.73") {
            self.labels.push(("body surface", exponent.signum()));
        }
    }
}

/// Whether every number in a unit has one reading. Those that are ten and an exponent when the
/// exponent was raised (100 to 109, 1010 to 1012) have two, and so has `2.Cel`, twice a degree or
/// a typing error. A thousand and a million have one; a hundred only before a volume
/// (`/(100.mL)`), twenty-four only before the hour.
pub(super) fn plain_factors(expr: &UnitExpr) -> bool {
    match expr {
        UnitExpr::Symbol(_) | UnitExpr::Annotation(_) => true,
        UnitExpr::Numeric(number) => is_one_of(*number, &[1, 1_000, 1_000_000]),
        UnitExpr::Annotated(inner, _) | UnitExpr::Power(inner, _) | UnitExpr::Reciprocal(inner) => {
            plain_factors(inner)
        }
        UnitExpr::Quotient(above, below) => plain_factors(above) && plain_factors(below),
        UnitExpr::Product(terms) => match terms.as_slice() {
            [UnitExpr::Numeric(number), UnitExpr::Symbol(code)] => {
                let hours = code == "h" && is_one_of(*number, &[24]);
                let volume = || lookup_unit(code, Case::Sensitive).is_some_and(is_volume);
                hours || is_one_of(*number, &[1]) || is_one_of(*number, &[100, 1_000]) && volume()
            }
            terms => terms.iter().all(plain_factors),
        },
    }
}

fn is_volume((_, atom): (Option<&octofhir_ucum::Prefix>, &UnitRecord)) -> bool {
    let volume = |(base, power)| power == if base == METRE { 3 } else { 0 };
    atom.dim.0.iter().copied().enumerate().all(volume)
}

fn is_one_of(number: Number, allowed: &[i64]) -> bool {
    allowed
        .iter()
        .any(|&allowed| number == Number::from_i64(allowed))
}
