//! Errors for people: every cause, on one line that nothing in it can break out of.

use std::error::Error;

/// An error with its causes, outermost first. Some errors repeat their cause in their own
/// words; it is not said twice.
pub fn one_line(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let words = cause.to_string();
        if !text.ends_with(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        next = cause.source();
    }
    printable(&text)
}

/// Text of unknown origin, made safe to print: nothing in it can start a line, drive a terminal
/// or reorder what stands beside it.
pub fn printable(text: &str) -> String {
    let acts = |c: char| {
        c.is_control()
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.chars()
        .map(|c| if acts(c) { ' ' } else { c })
        .collect()
}
