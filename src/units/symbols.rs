//! How a unit is shown to people.

/// Print symbols of UCUM atoms (UCUM's table, column "print"), where they differ from the code and
/// hospitals use them. Longer codes come before those they contain.
const SYMBOLS: &[(&str, &str)] = &[
    ("mm[Hg]", "mmHg"),
    ("cm[H2O]", "cmH₂O"),
    ("[degF]", "°F"),
    ("[lb_av]", "lb"),
    ("[oz_av]", "oz"),
    ("[in_i]", "in"),
    ("[ft_i]", "ft"),
    ("[psi]", "psi"),
    ("u[IU]", "µIU"),
    ("[IU]", "IU"),
    ("[pH]", ""),
    ("Cel", "°C"),
    ("10*12/", "10¹²/"),
    ("10*9/", "10⁹/"),
    ("10*6/", "10⁶/"),
    ("10*3/", "10³/"),
    ("umol", "µmol"),
    ("ueq", "µeq"),
    ("ukat", "µkat"),
    ("ug", "µg"),
    ("uL", "µL"),
];

/// A UCUM code with the symbols that people read; text that has none stays as it is. What braces
/// hold is a note for people (UCUM, section 6): it stays where a unit stands before it, and alone is
/// no unit, as one is none.
pub fn print_symbol(code: &str) -> String {
    if code == "1" || code.starts_with('{') {
        return String::new();
    }
    let noted = code.replace(['{', '}'], "").replace('_', " ");
    let code = if code.contains('{') {
        noted
    } else {
        code.to_owned()
    };
    let symbols = SYMBOLS.iter();
    symbols.fold(code, |text, (code, symbol)| text.replace(code, symbol))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_read_symbols() {
        for (code, symbol) in [
            ("Cel", "°C"),
            ("[degF]", "°F"),
            ("mm[Hg]", "mmHg"),
            ("10*3/uL", "10³/µL"),
            ("10*12/L", "10¹²/L"),
            ("umol/L", "µmol/L"),
            ("u[IU]/mL", "µIU/mL"),
            ("[lb_av]", "lb"),
            ("mL/min/{1.73_m2}", "mL/min/1.73 m2"),
            ("mmol/L", "mmol/L"),
            ("%", "%"),
            ("K/uL", "K/µL"),
            ("[pH]", ""),
            ("{score}", ""),
            ("1", ""),
        ] {
            assert_eq!(print_symbol(code), symbol, "{code}");
        }
    }
}
