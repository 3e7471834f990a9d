//! `reference.json` as text.

use serde_json::Value;
use vitalgate::screening::reference::RawReference;

/// One line a list of numbers: compact, and still readable in a comparison of two fits.
pub(in crate::cli::bundle) fn written(
    reference: &RawReference,
) -> Result<String, serde_json::Error> {
    // By way of text, which has the digits of a float32; a `Value` would have those of a double.
    let value: Value = serde_json::from_str(&serde_json::to_string(reference)?)?;
    let mut text = String::new();
    lines(&value, 0, &mut text);
    text.push('\n');
    Ok(text)
}

fn lines(value: &Value, depth: usize, text: &mut String) {
    let flat = |list: &[Value]| list.iter().all(|v| !v.is_object() && !v.is_array());
    let pairs = |list: &[Value]| {
        list.iter().all(|v| {
            v.as_array()
                .is_some_and(|pair| pair.len() == 2 && flat(pair))
        })
    };
    let indent = |text: &mut String, depth: usize| {
        text.push('\n');
        text.push_str(&"  ".repeat(depth));
    };
    match value {
        Value::Array(list) if !flat(list) && !pairs(list) => {
            text.push('[');
            for (index, item) in list.iter().enumerate() {
                text.push_str(if index == 0 { "" } else { "," });
                indent(text, depth + 1);
                lines(item, depth + 1, text);
            }
            indent(text, depth);
            text.push(']');
        }
        Value::Object(members) => {
            text.push('{');
            for (index, (name, member)) in members.iter().enumerate() {
                text.push_str(if index == 0 { "" } else { "," });
                indent(text, depth + 1);
                text.push_str(&Value::from(name.as_str()).to_string());
                text.push_str(": ");
                lines(member, depth + 1, text);
            }
            indent(text, depth);
            text.push('}');
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            text.push_str(&value.to_string());
        }
    }
}
