//! Canary patients: nobody's values, spelt so that every trace of them can be told from anything
//! else in memory.

use std::{fs, io, path::Path, sync::Arc};

use rand::{RngExt, rngs::StdRng};

use super::patterns::{Patterns, Trace};
use crate::{
    bundle::{
        BUNDLE_DIRECTORY,
        model::{Kind, ModelSpec},
    },
    clinical,
    config::ServedModel,
    inference::{Probe, Runtime, Scored},
    review, schema,
    screening::{self, Scratch, Screen},
};

/// How often a patient that passes every screen, or one that does not, is drawn before one is
/// taken as it is.
const DRAWS: usize = 64;

/// What every canary text of a run contains.
#[derive(Clone, Copy)]
pub(super) struct Marks {
    /// Eight letters, in every identifier.
    pub(super) identifier: [u8; 8],
    /// Eight digits, in every decimal number.
    pub(super) decimal: [u8; 8],
    /// Numbers for the control, no canary's. Drawn: a constant would be in the program itself.
    pub(super) planted: u64,
    /// As `planted`.
    pub(super) planted_single: u32,
}

impl Marks {
    pub(super) fn draw(rng: &mut StdRng) -> Self {
        Self {
            identifier: std::array::from_fn(|_| rng.random_range(b'A'..=b'Z')),
            // No zeros, which a shorter spelling of the number would lack.
            decimal: std::array::from_fn(|_| rng.random_range(b'1'..=b'9')),
            planted: rng.random_range(1 << 32..=u64::MAX),
            planted_single: rng.random_range(1 << 24..=u32::MAX),
        }
    }

    pub(super) fn identifier(&self, rng: &mut StdRng) -> String {
        let letters = String::from_utf8_lossy(&self.identifier);
        format!("{letters}{:08x}", rng.random_range(0..=u32::MAX))
    }
}

/// A model as the self-test needs it.
pub(super) struct Model {
    pub(super) spec: Arc<ModelSpec>,
    screen: Option<Screen>,
    /// Rows that every screen passes, or all known ones when none is.
    bases: Vec<Vec<f64>>,
    probes: Vec<(Probe, String)>,
    scratch: Scratch,
}

/// Observations by feature, spelt as JSON.
pub(super) struct Patient {
    pub(super) identifier: String,
    pub(super) observations: Vec<(String, String)>,
}

impl Patient {
    /// The request's body.
    pub(super) fn body(&self) -> String {
        let observations: Vec<String> = self
            .observations
            .iter()
            .map(|(name, value)| format!("\"{name}\": {value}"))
            .collect();
        format!(
            "{{\"observations\": {{{}}}, \"context\": {{\"encounter\": \"{}\", \"patient\": \"{}\"}}}}",
            observations.join(", "),
            self.identifier,
            self.identifier
        )
    }
}

impl Model {
    /// Reads a served model's bundle. The server verifies it; here it only shapes canaries.
    pub(super) fn read(
        repository: &Path,
        served: &ServedModel,
        runtime: &Runtime,
    ) -> io::Result<Self> {
        let bundle = repository
            .join(&served.name)
            .join(served.version.to_string())
            .join(BUNDLE_DIRECTORY);
        let spec =
            ModelSpec::parse(&fs::read(bundle.join("model.json"))?).map_err(io::Error::other)?;
        let probes = spec
            .members
            .iter()
            .map(|member| {
                let onnx = fs::read(bundle.join(&member.file))?;
                let probe = Probe::load(runtime, &onnx, spec.features.len());
                Ok((probe.map_err(io::Error::other)?, member.output.clone()))
            })
            .collect::<io::Result<Vec<_>>>()?;
        let rows = spec.known_answers.iter();
        let rows: Vec<Vec<f64>> = rows
            .map(|known| known.inputs.iter().map(|&v| f64::from(v)).collect())
            .collect();
        let screen = match fs::read(bundle.join("reference.json")) {
            Ok(bytes) => Screen::parse(&bytes, &spec).map_err(io::Error::other)?,
            Err(_) => None,
        };
        let mut model = Self {
            spec,
            screen,
            bases: Vec::new(),
            probes,
            scratch: Scratch::default(),
        };
        let clear = |row: &&Vec<f64>| {
            let patient = Patient {
                identifier: String::new(),
                observations: model.spell(row, |_, _, text| text),
            };
            model.is_clear(patient.body().as_bytes())
        };
        let passing: Vec<_> = rows.iter().filter(clear).cloned().collect();
        model.bases = if passing.is_empty() { rows } else { passing };
        Ok(model)
    }

    fn is_clear(&self, body: &[u8]) -> bool {
        schema::parse(&self.spec, body)
            .and_then(clinical::check_ranges)
            .and_then(clinical::check_consistency)
            .map(|consistent| screening::check_distribution(self.screen.as_ref(), consistent))
            .is_ok_and(|screened| review::clear(screened).is_ok())
    }

    /// Every rule holds, but the values are unlike any patient's.
    fn is_atypical(&self, body: &[u8]) -> bool {
        schema::parse(&self.spec, body)
            .and_then(clinical::check_ranges)
            .and_then(clinical::check_consistency)
            .map(|consistent| screening::check_distribution(self.screen.as_ref(), consistent))
            .is_ok_and(|screened| screened.atypical().is_some())
    }

    /// Makes a patient atypical: some quantities anywhere within what is expected. `false`, and
    /// nothing is changed, when no draw is.
    pub(super) fn make_atypical(&self, patient: &mut Patient, rng: &mut StdRng) -> bool {
        let before = patient.observations.clone();
        for _ in 0..DRAWS {
            for (feature, (_, value)) in self.spec.features.iter().zip(&mut patient.observations) {
                let Some((_, tail)) = value.split_once('.') else {
                    continue;
                };
                if rng.random_range(0..3) == 0 && feature.expected.min < feature.expected.max {
                    let drawn = rng.random_range(feature.expected.min..feature.expected.max);
                    // The digits behind the point are the canary's.
                    *value = format!("{:.0}.{tail}", drawn.floor());
                }
            }
            if self.is_atypical(patient.body().as_bytes()) {
                return true;
            }
            patient.observations.clone_from(&before);
        }
        false
    }

    /// Spells a row as JSON; `quantity` may change a quantity's spelling, given its feature and
    /// the number of digits that count.
    fn spell(
        &self,
        row: &[f64],
        mut quantity: impl FnMut(f64, usize, String) -> String,
    ) -> Vec<(String, String)> {
        let spelt = self.spec.features.iter().zip(row).map(|(feature, &value)| {
            let text = match feature.kind {
                _ if value.is_nan() => "null".to_owned(),
                Kind::Boolean => (value != 0.0).to_string(),
                Kind::Ordinal => format!("{value}"),
                Kind::Quantity => {
                    let step = feature.precision.unwrap_or(0.001);
                    let digits = (0..12).find(|d| 10f64.powi(*d) * step >= 0.999);
                    let digits = usize::try_from(digits.unwrap_or(12)).unwrap_or(12);
                    quantity(value, digits, format!("{value:.digits$}"))
                }
            };
            (feature.name.clone(), text)
        });
        spelt.collect()
    }

    /// A patient close to one that the bundle knows, with digits that nobody measures; one that
    /// passes every screen, if there is such.
    pub(super) fn patient(&self, marks: &Marks, rng: &mut StdRng) -> Patient {
        let mut patient = self.neighbour(marks, rng);
        for _ in 1..DRAWS {
            if self.is_clear(patient.body().as_bytes()) {
                break;
            }
            patient = self.neighbour(marks, rng);
        }
        patient
    }

    fn neighbour(&self, marks: &Marks, rng: &mut StdRng) -> Patient {
        let base = self.bases.get(rng.random_range(0..self.bases.len().max(1)));
        let base = base.map(Vec::as_slice).unwrap_or_default();
        let mark = String::from_utf8_lossy(&marks.decimal);
        let identifier = marks.identifier(rng);
        let observations = self.spell(base, |value, digits, _| {
            let near = value * rng.random_range(0.985..1.015);
            let tail = rng.random_range(1000..9999);
            let point = if digits == 0 { "." } else { "" };
            format!("{near:.digits$}{point}{mark}{tail}")
        });
        Patient {
            identifier,
            observations,
        }
    }

    /// Notes every number that a request with these observations may leave behind.
    pub(super) fn note(&mut self, patient: &Patient, kind: &'static str, patterns: &mut Patterns) {
        for (_, text) in &patient.observations {
            if let Ok(sent) = text.parse::<f64>() {
                patterns.double(sent, (Trace::SentF64, kind));
            }
        }
        let Ok(observed) = schema::parse(&self.spec, patient.body().as_bytes()) else {
            return;
        };
        let row = observed.into_row();
        for value in row.values() {
            patterns.double(*value, (Trace::RoundedF64, kind));
        }
        patterns.floats(row.inputs(), (Trace::InputF32, kind));
        if let Some(screen) = &self.screen {
            let values = row.values().iter().enumerate();
            let measured = values.map(|(index, value)| {
                let filled_in = row.imputed.contains(index);
                if filled_in { f64::NAN } else { *value }
            });
            screen.judge(measured, &mut self.scratch);
            for part in self.scratch.parts() {
                patterns.floats(part, (Trace::ScreenF32, kind));
            }
        }
        let mut probabilities = Vec::with_capacity(self.probes.len());
        for (probe, output) in &mut self.probes {
            for (name, floats) in probe.run(row.inputs()).unwrap_or_default() {
                patterns.floats(&floats, (Trace::ActivationF32, kind));
                if name == *output
                    && let Some(probability) = floats.first()
                {
                    patterns.single(*probability, kind);
                    probabilities.push(f64::from(*probability));
                }
            }
        }
        let count = f64::from(u32::try_from(probabilities.len()).unwrap_or(u32::MAX));
        patterns.double(
            probabilities.iter().sum::<f64>() / count,
            (Trace::MeanF64, kind),
        );
        // Few singles are looked for: those of a value that no rounding touches, if there is one.
        let unrounded = self.spec.features.iter().zip(row.inputs());
        if let Some((_, value)) = unrounded.into_iter().find(|(f, _)| f.precision.is_none()) {
            patterns.single(*value, kind);
        }
    }
}
