//! What people write for a unit.

use super::measure::{Chemistry, Measure};
use std::sync::LazyLock;

/// UCUM units of the bedside and the laboratory, the usual first, each with other spellings of
/// it. Case need not be varied here, nor white space. A spelling may stand twice where the
/// declared unit decides (`IU/L` of an enzyme and of a hormone).
pub(super) const CLINICAL: &[(&str, &[&str])] = &[
    ("1", &["", "fraction", "ratio", "unitless"]),
    ("{score}", &["score", "points", "pts"]),
    ("%", &["percent", "pct", "vol%"]),
    ("L/L", &[]),
    ("[pH]", &["pH", "1", "", "PH", "pHunits", "pHunit"]),
    (
        "/min",
        &[
            "bpm",
            "beats/min",
            "beat/min",
            "beats/minute",
            "beatsperminute",
            "1/min",
            "min-1",
            "min^-1",
            "perminute",
            "/minute",
            "breaths/min",
            "breath/min",
            "breaths/minute",
            "breathsperminute",
            "br/min",
            "brpm",
            "resp/min",
            "resps/min",
            "rpm",
            "cpm",
        ],
    ),
    ("/s", &["1/s", "/sec"]),
    ("/h", &["1/h", "/hr"]),
    ("mm[Hg]", &["mmHg", "mm(Hg)", "torr"]),
    ("kPa", &[]),
    ("cm[H2O]", &["cmH2O", "cm(H2O)", "cmWater"]),
    ("mbar", &[]),
    ("hPa", &[]),
    ("Pa", &[]),
    ("[psi]", &["psi"]),
    (
        "Cel",
        &[
            "degC",
            "C",
            "Celsius",
            "degCelsius",
            "degreesC",
            "degreesCelsius",
            "deg.C",
        ],
    ),
    (
        "[degF]",
        &[
            "degF",
            "F",
            "Fahrenheit",
            "degFahrenheit",
            "degreesF",
            "degreesFahrenheit",
        ],
    ),
    ("K", &["Kelvin"]),
    ("a", &["yr", "yrs", "y", "year", "years", "y/o", "yo"]),
    ("mo", &["month", "months", "mos", "mth"]),
    ("wk", &["week", "weeks", "wks"]),
    ("d", &["day", "days"]),
    ("h", &["hr", "hrs", "hour", "hours"]),
    ("min", &["mins", "minute", "minutes"]),
    ("s", &["sec", "secs", "second", "seconds"]),
    ("ms", &["msec"]),
    ("mg/dL", &["mg%", "mg/100mL", "mgperdL"]),
    ("mmol/L", &["mM", "mmolperL"]),
    ("meq/L", &["mEq/L", "mval/L"]),
    ("g/dL", &["g%", "gm/dL", "gm%", "g/100mL", "[g%]"]),
    ("g/L", &["gm/L"]),
    ("umol/L", &["uM"]),
    ("nmol/L", &["nM"]),
    ("pmol/L", &["pM"]),
    ("mol/L", &[]),
    ("ueq/L", &[]),
    ("mmol/dL", &[]),
    ("meq/dL", &[]),
    ("mg/L", &[]),
    ("ug/dL", &["ug%"]),
    ("ug/L", &[]),
    ("mg/mL", &[]),
    ("ug/mL", &[]),
    ("ng/mL", &[]),
    ("ng/dL", &[]),
    ("ng/L", &[]),
    ("pg/mL", &[]),
    ("mosm/kg", &["mOsm/kg", "mOsm/kgH2O"]),
    ("mosm/L", &["mOsm/L"]),
    ("10*9/L", &["G/L", "Giga/L", "Gpt/L", "bil/L", "billion/L"]),
    (
        "10*3/uL",
        &[
            "K/uL",
            "k/uL",
            "thou/uL",
            "thousand/uL",
            "th/uL",
            "Tsd/uL",
            "K/mm3",
            "k/mm3",
            "thou/mm3",
            "K/cumm",
            "k/cumm",
            "thou/cumm",
        ],
    ),
    (
        "10*6/uL",
        &[
            "M/uL",
            "mil/uL",
            "mill/uL",
            "million/uL",
            "M/mm3",
            "mil/mm3",
            "M/cumm",
        ],
    ),
    ("10*12/L", &["T/L", "Tera/L", "Tpt/L"]),
    ("10*6/L", &[]),
    ("10*6/mL", &[]),
    ("10*3/mL", &[]),
    (
        "/uL",
        &[
            "cells/uL",
            "cell/uL",
            "#/uL",
            "cells/mm3",
            "/mm3",
            "1/mm3",
            "/cumm",
            "cells/cumm",
        ],
    ),
    ("/L", &["cells/L"]),
    ("kg", &["kgs", "kilo", "kilos", "kilogram", "kilograms"]),
    ("g", &["gm", "gms", "gram", "grams"]),
    ("mg", &[]),
    ("ug", &[]),
    ("[lb_av]", &["lb", "lbs", "pound", "pounds"]),
    ("[oz_av]", &["oz", "ounce", "ounces"]),
    ("cm", &[]),
    ("m", &[]),
    ("mm", &[]),
    ("[in_i]", &["in", "inch", "inches"]),
    ("[ft_i]", &["ft", "foot", "feet"]),
    (
        "mL",
        &[
            "cc",
            "cm3",
            "milliliter",
            "milliliters",
            "millilitre",
            "millilitres",
        ],
    ),
    ("L", &["liter", "liters", "litre", "litres"]),
    ("dL", &[]),
    (
        "mL/d",
        &["mL/24h", "mL/24hr", "mL/(24.h)", "mL/day", "cc/24h"],
    ),
    ("L/d", &["L/24h", "L/(24.h)", "L/day"]),
    ("mL/h", &["mL/hr", "cc/h", "cc/hr"]),
    ("mL/min", &["cc/min"]),
    ("L/min", &["lpm"]),
    ("mL/kg/h", &["mL/kg/hr", "cc/kg/hr"]),
    ("ug/kg/min", &[]),
    ("mL/min/{1.73_m2}", &["mL/min/1.73m2", "mL/min/1.73m^2"]),
    ("kg/m2", &["kg/m^2"]),
    ("U/L", &["IU/L", "units/L"]),
    ("[IU]/L", &["IU/L"]),
    ("[IU]/mL", &["IU/mL"]),
    ("m[IU]/L", &["mIU/L"]),
    ("u[IU]/mL", &["uIU/mL"]),
    ("ukat/L", &[]),
];

/// Ways to write `10*`, the UCUM power of ten. `10e9` is strictly ten times more, but nobody who
/// writes it for a blood count means that.
const TEN_TO_THE: [&str; 10] = [
    "10*", "10^", "10e", "10E", "10**", "x10^", "x10*", "x10e", "x10E", "x10**",
];

/// Words within a compound unit that are not in the table as a whole (`ug/kg/hr`).
const WORDS: &[(&str, &str)] = &[
    ("mEq", "meq"),
    ("uEq", "ueq"),
    ("mOsm", "mosm"),
    ("IU", "[IU]"),
    ("mIU", "m[IU]"),
    ("mmHg", "mm[Hg]"),
    ("cmH2O", "cm[H2O]"),
    ("cc", "mL"),
    ("gm", "g"),
    ("sec", "s"),
    ("hr", "h"),
    ("hour", "h"),
    ("day", "d"),
    ("minute", "min"),
];

/// A unit and its spellings, its UCUM code among them.
pub(super) struct Known {
    pub(super) code: String,
    pub(super) measure: Measure,
    pub(super) spellings: Vec<String>,
}

static KNOWN: LazyLock<Vec<Known>> = LazyLock::new(|| {
    CLINICAL
        .iter()
        .filter_map(|&(code, others)| {
            let measure = Measure::parse(code).ok()?;
            let mut spellings = vec![code.to_owned()];
            spellings.extend(others.iter().map(|&other| other.to_owned()));
            if let Some(rest) = code.strip_prefix("10*") {
                let mut write = |rest: &str| {
                    spellings.extend(TEN_TO_THE.iter().map(|ten| format!("{ten}{rest}")));
                };
                write(rest);
                if let Some(power) = rest.strip_suffix("uL") {
                    write(&format!("{power}mm3"));
                    write(&format!("{power}cumm"));
                }
            }
            // Both are litres in UCUM.
            let lower: Vec<String> = spellings
                .iter()
                .filter_map(|text| Some(format!("{}l", text.strip_suffix('L')?)))
                .collect();
            spellings.extend(lower);
            Some(Known {
                code: code.to_owned(),
                measure,
                spellings,
            })
        })
        .collect()
});

static SPELLINGS: LazyLock<Vec<&'static str>> = LazyLock::new(|| {
    let mut all: Vec<&'static str> = known()
        .iter()
        .flat_map(|known| known.spellings.iter().map(String::as_str))
        .collect();
    all.sort_unstable();
    all
});

/// The units people write.
pub(super) fn known() -> &'static [Known] {
    &KNOWN
}

/// Whether this is a spelling of some clinical unit.
pub(super) fn is_known(text: &str) -> bool {
    SPELLINGS.binary_search(&text).is_ok()
}

/// Whether people mean another unit by `code` than UCUM does.
pub(super) fn read_otherwise(code: &str, measure: &Measure) -> bool {
    let Ok(no_substance) = Chemistry::new(None, None) else {
        return true;
    };
    let mut meanings = known()
        .iter()
        .filter(|known| known.spellings.iter().any(|text| text == code))
        .peekable();
    meanings.peek().is_some()
        && !meanings.any(|known| {
            known
                .measure
                .convert_to(measure, &no_substance)
                .is_some_and(|conversion| conversion.is_identity())
        })
}

/// The text in printable ASCII and spaces, `None` when it has anything else; both micro signs,
/// the degree signs and raised digits have a plain form.
pub(super) fn plain(text: &str) -> Option<String> {
    let mut plain = String::with_capacity(text.len() + 8);
    for character in text.trim().chars() {
        match character {
            '\u{b5}' | '\u{3bc}' => plain.push('u'),
            '°' | 'º' => plain.push_str("deg"),
            '℃' => plain.push_str("degC"),
            '℉' => plain.push_str("degF"),
            '×' => plain.push('x'),
            '¹' | '²' | '³' | '⁶' | '⁹' => {
                // A raised digit is a power: of a unit as it stands (mm3), of ten with a caret.
                if plain.ends_with("10") {
                    plain.push('^');
                }
                plain.push(match character {
                    '¹' => '1',
                    '²' => '2',
                    '³' => '3',
                    '⁶' => '6',
                    _ => '9',
                });
            }
            '\u{a0}' | '\u{2009}' | '\u{202f}' => plain.push(' '),
            ' '..='~' => plain.push(character),
            _ => return None,
        }
    }
    // `mcg` is no unit in UCUM, and nothing else that it could be part of is.
    Some(plain.replace("mcg", "ug").replace("mcL", "uL"))
}

/// The text with the words between solidi in UCUM. White space within a word stays, and makes it
/// unknown: `m s` is not a millisecond.
pub(super) fn as_ucum(plain: &str) -> String {
    let word = |written: &str| -> String {
        let known = WORDS.iter().find(|&&(word, _)| word == written);
        known.map_or(written, |&(_, ucum)| ucum).to_owned()
    };
    plain
        .split('/')
        .map(|written| word(written.trim()))
        .collect::<Vec<_>>()
        .join("/")
}
