use super::*;
use proptest::prelude::*;

fn unit(code: &str) -> DeclaredUnit {
    DeclaredUnit::parse(code, None, None).unwrap()
}

fn of(code: &str, molar_mass: f64, valence: u32) -> DeclaredUnit {
    DeclaredUnit::parse(code, Some(molar_mass), Some(valence)).unwrap()
}

fn near(actual: f64, expected: f64, tolerance: f64) -> bool {
    (actual - expected).abs() <= tolerance
}

/// Every value was worked out by hand.
#[test]
fn clinical_conversions() {
    const GLUCOSE: f64 = 180.156;
    const CREATININE: f64 = 113.12;
    const NITROGEN: f64 = 28.0134;
    const MAGNESIUM: f64 = 24.305;
    const LACTATE: f64 = 90.08;
    for (declared, molar_mass, valence, submitted, value, expected, tolerance) in [
        ("mmol/L", GLUCOSE, 1, "mg/dL", 100.0, 5.5507, 5e-5),
        ("mg/dL", GLUCOSE, 1, "mmol/L", 5.5507, 100.0, 5e-3),
        ("mg/dL", CREATININE, 1, "umol/L", 88.4, 1.0, 5e-5),
        ("umol/L", CREATININE, 1, "mg/dL", 1.0, 88.4017, 5e-5),
        ("mg/dL", NITROGEN, 1, "mmol/L", 5.0, 14.0067, 1e-9),
        ("mmol/L", NITROGEN, 1, "mg/dL", 14.0067, 5.0, 1e-9),
        ("mmol/L", LACTATE, 1, "mg/dL", 18.0, 1.99822, 5e-6),
        ("mg/dL", MAGNESIUM, 2, "mmol/L", 1.0, 2.4305, 1e-12),
        ("mg/dL", MAGNESIUM, 2, "meq/L", 2.0, 2.4305, 1e-12),
        ("meq/L", MAGNESIUM, 2, "mg/dL", 2.4305, 2.0, 1e-12),
        ("mmol/L", MAGNESIUM, 2, "mEq/L", 2.0, 1.0, 0.0),
        ("mmol/L", 22.990, 1, "mEq/L", 140.0, 140.0, 0.0),
        ("mg/mmol", CREATININE, 1, "mg/g", 30.0, 3.3936, 1e-9),
        ("mg/g", CREATININE, 1, "mg/mmol", 3.3936, 30.0, 1e-9),
    ] {
        let conversion = of(declared, molar_mass, valence)
            .convert(submitted)
            .unwrap();
        let actual = conversion.apply(value);
        assert!(
            near(actual, expected, tolerance),
            "{submitted} → {declared}: {actual}"
        );
    }
    for (declared, submitted, value, expected, tolerance) in [
        ("Cel", "[degF]", 98.6, 37.0, 1e-12),
        ("[degF]", "Cel", 37.0, 98.6, 1e-12),
        ("Cel", "K", 310.15, 37.0, 1e-12),
        ("K", "°F", 32.0, 273.15, 1e-12),
        ("mm[Hg]", "kPa", 16.0, 120.010_2, 1e-4),
        ("kPa", "mmHg", 120.0, 15.998_64, 1e-9),
        ("cm[H2O]", "mmHg", 10.0, 13.595_1, 1e-4),
        ("10*9/L", "K/uL", 250.0, 250.0, 0.0),
        ("/L", "K/uL", 250.0, 250e9, 1e-3),
        ("10*9/L", "/uL", 7450.0, 7.45, 0.0),
        ("10*3/uL", "M/uL", 0.25, 250.0, 0.0),
        ("10*12/L", "10^6/µL", 4.7, 4.7, 0.0),
        ("%", "L/L", 0.34, 34.0, 1e-14),
        ("%", "1", 0.34, 34.0, 1e-14),
        ("L/L", "%", 34.0, 0.34, 0.0),
        ("L/L", "1", 0.34, 0.34, 0.0),
        ("%", "mL/mL", 0.34, 34.0, 1e-14),
        ("g/dL", "g/L", 135.0, 13.5, 0.0),
        ("g/L", "mg%", 900.0, 9.0, 0.0),
        ("ug/L", "ng/mL", 1.5, 1.5, 0.0),
        ("mg/L", "mcg/mL", 1.5, 1.5, 0.0),
        ("a", "mo", 18.0, 1.5, 1e-12),
        ("kg", "lbs", 154.0, 69.853_224, 1e-6),
        ("cm", "in", 70.0, 177.8, 1e-12),
        ("mL/d", "mL/h", 50.0, 1200.0, 1e-12),
        ("mL/d", "mL/24 h", 1200.0, 1200.0, 0.0),
        ("/min", "Hz", 1.2, 72.0, 1e-12),
        ("U/L", "ukat/L", 1.0, 60.0, 1e-12),
        ("mL/kg/h", "mL/kg/hr", 0.5, 0.5, 0.0),
        ("ug/kg/min", "mg/kg/h", 0.6, 10.0, 1e-12),
        ("mm[Hg]", "N/m2", 16_000.0, 120.010_2, 1e-4),
        ("Bq", "Ci", 1.0, 3.7e10, 0.0),
        // Numbers with one reading.
        ("10*9/L", "1000/uL", 143.0, 143.0, 0.0),
        ("10*12/L", "1000000/mm3", 4.7, 4.7, 0.0),
        ("mg/dL", "mg/100mL", 90.0, 90.0, 0.0),
        ("mg/dL", "mg/(100.mL)", 90.0, 90.0, 0.0),
        ("mg/dL", "mg/(1000.uL)", 0.9, 90.0, 1e-12),
        ("g/d", "g/(24.h)", 0.3, 0.3, 0.0),
    ] {
        let actual = unit(declared).convert(submitted).unwrap().apply(value);
        assert!(
            near(actual, expected, tolerance),
            "{submitted} → {declared}: {actual:?}"
        );
    }
}

#[test]
fn spellings_that_change_nothing() {
    for (declared, submitted) in [
        (
            "/min",
            "bpm beats/min BPM breaths/min Beats/Minute /min 1/min {beats}/min min-1",
        ),
        ("mm[Hg]", "mmHg|mm Hg|MMHG|mm[Hg]|Torr|mm(Hg)"),
        ("Cel", "degC|°C|° C|C|c|celsius|CEL|℃|deg C|ºC"),
        ("[degF]", "degF|°F|F|f|℉|Fahrenheit"),
        (
            "10*3/uL",
            "K/uL k/uL K/UL K/µL K/μL K/mcL 10^3/uL 10^9/L x10^9/L 10e9/L 10E9/L G/L thou/uL \
             10*9/L ×10⁹/L 10³/µL x10E3/uL K/cumm 10*3/mm3 10^3/mm³ K/ul G/l X10*9/L /nL",
        ),
        ("ug/L", "mcg/L µg/L μg/L UG/L ng/mL"),
        ("ug/kg/min", "mcg/kg/min µg/kg/minute"),
        ("umol/L", "µmol/L μmol/L UMOL/L uM"),
        ("meq/L", "mEq/L MEQ/L meq/l"),
        ("mmol/L", "MMOL/L mmol/l mM"),
        ("%", "percent Percent pct %{vol} vol%"),
        ("a", "years yr Yr y Y year YEARS"),
        ("mL", "ml cc cm3"),
        ("cm[H2O]", "cmH2O|cm H2O|CMH2O"),
        ("kPa", "KPA kpa"),
        ("U/L", "IU/L U/l"),
        ("m[IU]/L", "mIU/L u[IU]/mL uIU/mL"),
        ("mosm/kg", "mOsm/kg"),
        ("[pH]", "pH|PH|[pH]|1|"),
        ("1", "1|{score}||{gcs}|score"),
        ("{score}", "1|{score}||{gcs}|points"),
    ] {
        let declared = unit(declared);
        let separator = if submitted.contains('|') { '|' } else { ' ' };
        for submitted in submitted.split(separator) {
            let answer = declared.convert(submitted);
            assert_eq!(
                answer,
                Ok(Conversion::IDENTITY),
                "{submitted} → {}",
                declared.code()
            );
        }
    }
    // UCUM's case stands: a megalitre, which the range check refuses.
    assert!(near(unit("mL").convert("ML").unwrap().apply(1.0), 1e9, 0.0));
}

#[test]
fn what_does_not_convert_is_refused() {
    let refused = Err(UnitError::NotCommensurable);
    for (declared, submitted) in [
        ("mmol/L", "mg/dL"),
        ("mg/dL", "mmol/L"),
        ("mmol/L", "meq/L"),
        ("meq/L", "mg/dL"),
        // UCUM's mole is a number; a platelet is not one.
        ("10*9/L", "mmol/L"),
        ("mmol/L", "10*9/L"),
        ("mosm/kg", "mmol/kg"),
        // A glycated haemoglobin of 42 mmol/mol is 6.0 %, not 4.2 %.
        ("%", "mmol/mol"),
        ("mmol/mol", "%"),
        ("10*-3", "mmol/mol"),
        ("mmol/L", "mmHg"),
        ("/min", "mm[Hg]"),
        ("/min", "U"),
        ("mL", "mL/d"),
        ("U/L", "[IU]/mL"),
        ("10*9/L", "g/l"),
        ("10*9/L", "K"),
        ("[pH]", "nmol/L"),
        ("nmol/L", "[pH]"),
        ("{score}", "%"),
        ("{score}", "[ppm]"),
        ("%", ""),
        ("kg", "MG"), // a megagauss
    ] {
        let answer = unit(declared).convert(submitted);
        assert_eq!(answer, refused, "{submitted} → {declared}");
    }
    // A molar mass alone says nothing about charge, a valence nothing about mass.
    let weighed = DeclaredUnit::parse("mmol/L", Some(24.305), None).unwrap();
    assert_eq!(weighed.convert("meq/L"), refused);
    let charged = DeclaredUnit::parse("mmol/L", None, Some(2)).unwrap();
    assert_eq!(charged.convert("mg/dL"), refused);
    for unknown in [
        "furlong/fortnight",
        "micromol/L",
        "m m Hg x",
        "mg\u{0}/dL",
        "mg/dL🙂",
        "m s",
        "((",
        "10*99",
    ] {
        let answer = of("mg/dL", 100.0, 1).convert(unknown);
        assert!(answer.is_err(), "{unknown}");
    }
    assert_eq!(unit("1").convert(&"m".repeat(33)), Err(UnitError::TooLong));
}

#[test]
fn a_declared_unit_is_ucum_and_means_what_people_read() {
    for code in ["", "mmHg", "C", "F", "K/uL", "G/L", "bpm", "µg/L", "mg /dL"] {
        let error = DeclaredUnit::parse(code, None, None).unwrap_err();
        assert_eq!(error, UnitError::Unknown, "{code}");
    }
    let mass = |mass| DeclaredUnit::parse("g/L", Some(mass), None).unwrap_err();
    for bad in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        assert_eq!(mass(bad), UnitError::MolarMass);
    }
    let valence = DeclaredUnit::parse("g/L", None, Some(0)).unwrap_err();
    assert_eq!(valence, UnitError::Valence);
    assert_eq!(unit("Cel").accepted_examples(), ["Cel", "[degF]", "K"]);
    assert_eq!(
        of("mg/dL", 100.0, 1).accepted_examples()[..2],
        ["mg/dL", "mmol/L"]
    );
    assert_eq!(unit("{score}").accepted_examples(), ["{score}", "1"]);
}

/// `103/uL` is `10³/uL` in plain text, or 103 per microlitre: nobody can say.
#[test]
fn a_number_that_may_be_a_lost_power_is_unknown() {
    for (declared, submitted) in [
        (
            "10*9/L",
            "103/uL|103/µL|x103/uL|x10 3/uL|10 3/uL|(103)/uL|103{cells}/uL|103 / uL|103/mm3|\
             109/L|10 9/L|x109/L|X109/L|106/L|1012/L|1011/L|10/uL|100/uL|10.3/uL|10000/uL|106/mL",
        ),
        ("10*12/L", "106/uL|106/mm3|x106/uL|1012/L|10 12/L"),
        ("Cel", "2.Cel|10.Cel|2.K"),
        ("mg/dL", "2.mg/dL|mg/(10.mL)|mg/103.mL|100.mg/dL"),
        ("mL/d", "mL/(12.h)|mL/(23.h)"),
        ("/min", "60/h|2/min|100/min"),
        ("%", "100|1/100|2"),
        ("{score}", "2"),
        ("1", "2|100"),
    ] {
        for submitted in submitted.split('|') {
            let answer = unit(declared).convert(submitted);
            assert_eq!(answer, Err(UnitError::Unknown), "{submitted} → {declared}");
        }
    }
    // A declared unit is UCUM, numbers and all.
    let declared = unit("103/uL");
    assert_eq!(declared.convert("103/uL"), Ok(Conversion::IDENTITY));
    assert!(near(
        declared.convert("/uL").unwrap().apply(206.0),
        2.0,
        1e-12
    ));
}

#[test]
fn what_cancels_does_not_vanish() {
    for (declared, submitted) in [
        (
            "/min",
            "ug/kg/min mcg/kg/min mL/mL/min mg/mg/min L/L/min s/s/min bit/min bit/s Bd Bq Ci \
             %/min [pi]/min mol/mol/min By/s 1 %",
        ),
        ("ug/kg/min", "/min /s mL/L/min"),
        (
            "%",
            "[pi] bit By g/g g/kg mg/dg m/m cm/m s/s mmol/mol {score} score points [HPF] \
             [car_Au] mm[Hg]/mm[Hg] {cells}",
        ),
        (
            "1",
            "% L/L [pi] bit g/g mL/mL [ppm] 10*-2 10*3 mmol/mol /min",
        ),
        ("{score}", "% L/L [pi] bit 10*3"),
        ("L/L", "[pi] bit g/g m/m"),
        ("g/kg", "% 1 L/L"),
        ("10*9/L", "%/L [pi]/L bit/L g/kg/L"),
        ("mL/m2", "cm m"),
        ("mL/min", "mL/min/{1.73_m2} mL/min/1.73m2"),
        ("mL/min/{1.73_m2}", "mL/min L/d"),
    ] {
        for submitted in submitted.split_ascii_whitespace() {
            let answer = unit(declared).convert(submitted);
            let refused = Err(UnitError::NotCommensurable);
            assert_eq!(answer, refused, "{submitted} → {declared}");
        }
    }
    for (declared, submitted) in [("1", "1||{any}|fraction"), ("bit", "bit"), ("g/kg", "mg/g")] {
        for submitted in submitted.split('|') {
            let answer = unit(declared).convert(submitted);
            assert_eq!(answer, Ok(Conversion::IDENTITY), "{submitted}");
        }
    }
}

#[test]
fn examples_are_of_the_declared_quantity() {
    for (declared, examples) in [
        ("/min", "/min /s /h"),
        ("1", "1"),
        ("{score}", "{score} 1"),
        ("%", "% 1 L/L"),
        ("L/L", "L/L 1 %"),
        ("ug/kg/min", "ug/kg/min"),
        ("mL/m2", "mL/m2"),
        ("mL/min/{1.73_m2}", "mL/min/{1.73_m2}"),
        ("10*3/uL", "10*3/uL 10*9/L 10*6/uL 10*12/L 10*6/L"),
    ] {
        assert_eq!(unit(declared).accepted_examples().join(" "), examples);
    }
}

/// A spelling that two entries claim must mean the same for every declared unit.
#[test]
fn no_spelling_has_two_meanings() {
    for known in spelling::known() {
        for chemistry in [(None, None), (Some(24.305), Some(2))] {
            let declared = DeclaredUnit::parse(&known.code, chemistry.0, chemistry.1).unwrap();
            for other in spelling::known() {
                let meant = other
                    .measure
                    .convert_to(&declared.measure, &declared.chemistry);
                for text in other.spellings.iter().filter(|text| !text.is_empty()) {
                    if let Some(meant) = meant {
                        assert_eq!(declared.convert(text), Ok(meant), "{text} → {}", known.code);
                    }
                }
            }
        }
    }
}

/// The table's codes are all UCUM, so none was dropped.
#[test]
fn every_clinical_unit_is_read() {
    assert_eq!(spelling::known().len(), spelling::CLINICAL.len());
}

#[test]
fn steps_in_the_submitted_unit() {
    for (declared, molar_mass, submitted, step, expected) in [
        ("mg/dL", 180.156, "mmol/L", 1.0, 0.01),
        ("mg/dL", 113.12, "umol/L", 0.1, 1.0),
        ("Cel", 1.0, "[degF]", 0.1, 0.1),
        ("Cel", 1.0, "K", 0.1, 0.1),
        ("mm[Hg]", 1.0, "kPa", 1.0, 0.1),
        ("%", 1.0, "L/L", 0.1, 0.001),
        ("10*9/L", 1.0, "/uL", 1.0, 1000.0),
        ("10*9/L", 1.0, "/uL", 0.1, 100.0),
        ("mL/d", 1.0, "mL/24h", 5.0, 5.0),
        ("g/L", 1.0, "g/dL", 1.0, 0.1),
        ("kg", 1.0, "[lb_av]", 0.5, 1.0),
    ] {
        let actual = of(declared, molar_mass, 1)
            .convert(submitted)
            .unwrap()
            .step(step);
        assert_eq!(
            actual.to_bits(),
            f64::to_bits(expected),
            "{submitted} → {declared}: {actual}"
        );
    }
}

#[test]
fn rounding_is_decimal() {
    for (value, step, expected, changed) in [
        (37.1, 0.1, 37.1, false),
        (37.12, 0.1, 37.1, true),
        (37.15, 0.1, 37.2, true),
        (-37.15, 0.1, -37.2, true),
        (f64::from(37.1_f32), 0.1, 37.1, false),
        (37.099_998_474, 0.1, 37.1, false),
        (37.100_1, 0.1, 37.1, true),
        (0.3, 0.1, 0.3, false),
        (1.005, 0.001, 1.005, false),
        (7.355, 0.005, 7.355, false),
        (7.357, 0.05, 7.35, true),
        (2.5, 1.0, 3.0, true),
        (1.24, 0.5, 1.0, true),
        (1203.0, 5.0, 1205.0, true),
        (1202.0, 5.0, 1200.0, true),
        (7450.0, 100.0, 7500.0, true),
        (0.9, 0.3, 0.9, false),
        (-0.01, 0.1, 0.0, true),
        (0.0, 0.1, 0.0, false),
        (1e300, 0.1, 1e300, false),
        (37.123, 0.0, 37.123, false),
        (37.123, -1.0, 37.123, false),
        (37.123, f64::NAN, 37.123, false),
        (f64::INFINITY, 0.1, f64::INFINITY, false),
    ] {
        let rounded = round_to_step(value, step);
        let same = rounded.value.to_bits() == f64::to_bits(expected);
        assert!(
            same && rounded.changed == changed,
            "{value} at {step}: {rounded:?}"
        );
    }
    assert!(round_to_step(f64::NAN, 0.1).value.is_nan());
}

proptest! {
    #[test]
    fn no_text_panics(text in ".{0,40}") {
        let _answer = of("mg/dL", 180.156, 2).convert(&text);
        let _declared = DeclaredUnit::parse(&text, None, None);
    }

    #[test]
    fn no_unit_like_text_panics(
        parts in prop::collection::vec(prop::sample::select(vec![
            "m", "g", "mol", "eq", "U", "[IU]", "Cel", "[pH]", "10*", "10^", "9", "-", "99999999",
            "/", ".", "(", ")", "{", "}", "[", "]", "2147483648", "k", "Y", "%", "B[V]", "µ", "°",
            " ", "[degF]", "osm", "0", "1", "+", "[m_e]", "Ym",
        ]), 0..14),
        declared in prop::sample::select(vec!["mg/dL", "Cel", "[pH]", "%", "10*9/L", "{score}"]),
    ) {
        if let Ok(conversion) = of(declared, 180.156, 2).convert(&parts.concat()) {
            let slope = conversion.apply(1.0) - conversion.apply(0.0);
            prop_assert!(slope.is_finite());
            prop_assert!(conversion.step(0.1) > 0.0);
        }
    }

    #[test]
    fn conversions_come_back(
        pair in prop::sample::select(vec![
            ("mg/dL", "mmol/L"), ("mg/dL", "meq/L"), ("Cel", "[degF]"), ("K", "Cel"),
            ("mm[Hg]", "kPa"), ("%", "L/L"), ("10*9/L", "/uL"), ("kg", "[lb_av]"), ("a", "mo"),
        ]),
        value in -1e4..1e4_f64,
    ) {
        let there = of(pair.0, 180.156, 2).convert(pair.1).unwrap();
        let back = of(pair.1, 180.156, 2).convert(pair.0).unwrap();
        let again = back.apply(there.apply(value));
        prop_assert!(near(again, value, 1e-10 * value.abs().max(1.0)), "{value} became {again}");
    }

    #[test]
    fn rounding_twice_is_rounding_once(value in -1e6..1e6_f64, step in prop::sample::select(
        vec![0.001, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 10.0, 100.0])
    ) {
        let once = round_to_step(value, step);
        let twice = round_to_step(once.value, step);
        prop_assert_eq!(twice, Rounded { value: once.value, changed: false });
        prop_assert!((once.value - value).abs() <= step * 0.500_001);
        // The shortest decimal has no more places than the step.
        let places = format!("{}", once.value).split_once('.').map_or(0, |(_, tail)| tail.len());
        prop_assert!(places <= 3, "{} at {}", once.value, step);
    }
}
