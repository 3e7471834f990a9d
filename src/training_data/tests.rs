//! Headers, values and what errors may say.

use super::*;
use crate::specimens;

const NAMES: &str = "RecordID,Age,Male,HR,SBP,DBP,MAP,Temp,GCS,MechVent,Urine24,BUN,Creatinine,\
                     Na,K,HCO3,Glucose,WBC,HCT,Platelets,Mg,died";
const ROW: &str = "7,54.0,0.0,71.0,103.0,41.0,61.67,37.14,15.0,0,2471.0,13.0,0.8,137.0,4.4,,205.0,\
                   11.2,33.5,221.0,1.5,0";

fn read(text: &str, columns: &Columns) -> Result<Table, TableError> {
    Table::read(text.as_bytes(), &specimens::icu(), columns)
}

#[test]
fn customary_headers_are_understood_and_values_rounded_as_the_server_rounds() {
    let table = read(&format!("{NAMES}\n{ROW}\n"), &Columns::default()).unwrap();
    let spec = specimens::icu();
    let at = |name: &str| table.row(0)[spec.by_name[name]];
    assert!((at("heart_rate") - 71.0).abs() < 1e-12);
    assert!(
        (at("temperature") - 37.1).abs() < 1e-12,
        "a tenth of a degree"
    );
    assert!((at("urine_24h") - 2470.0).abs() < 1e-12, "steps of 5 mL");
    assert!(
        (at("mean_bp") - 61.67).abs() < 1e-12,
        "derived: not rounded"
    );
    assert!(at("bicarbonate").is_nan());
    assert_eq!(table.labels().unwrap().values, [Some(false)]);
    assert_eq!(table.line(0), 2);
}

#[test]
fn the_models_own_names_win_and_rows_keep_their_lines() {
    let text = include_str!("../../models/icu-mortality/synthetic.csv");
    let table = read(text, &Columns::default()).unwrap();
    assert_eq!((table.len(), table.width()), (256, 20));
    assert_eq!(table.line(255), 257);
    assert!(table.labels().is_none());
    assert_eq!(table.sha256().len(), 64);
}

#[test]
fn groups_and_batches_become_numbers() {
    let columns = Columns {
        group: Some("RecordID".to_owned()),
        batch: Some("GCS".to_owned()),
        ..Columns::default()
    };
    let table = read(
        &format!("{NAMES}\n{ROW}\n{ROW}\n8{}\n", &ROW[1..]),
        &columns,
    )
    .unwrap();
    assert_eq!(table.groups().unwrap(), [0, 0, 1]);
    assert_eq!(table.batches().unwrap().names, ["15.0"]);
}

#[test]
fn what_is_wrong_is_said_without_a_value() {
    let error = |text: String, columns: &Columns| read(&text, columns).unwrap_err().to_string();
    let none = Columns::default();
    let bad = format!("{NAMES}\n{}\n", ROW.replace("37.14", "Jane Doe"));
    assert_eq!(
        error(bad, &none),
        "line 2, column \"Temp\": expected a number, or nothing"
    );
    let part = format!("{NAMES}\n{}\n", ROW.replace(",15.0,", ",14.5,"));
    assert_eq!(
        error(part, &none),
        "line 2, column \"GCS\": expected a whole number, or nothing"
    );
    let label = format!("{NAMES}\n{}2\n", &ROW[..ROW.len() - 1]);
    assert_eq!(
        error(label, &none),
        "line 2, column \"died\": expected 0 or 1, or nothing"
    );
    let short = format!("{NAMES}\n1,2,3\n");
    assert!(error(short, &none).contains("another number of fields"));
    assert_eq!(error(format!("{NAMES}\n"), &none), "no rows");
    let without = error(format!("{}\n{ROW}\n", NAMES.replace("HR", "X")), &none);
    assert!(without.starts_with("no column \"heart_rate\""), "{without}");
    let twice = error(
        format!("{}\n{ROW}\n", NAMES.replace("RecordID", "Pulse")),
        &none,
    );
    assert!(twice.contains("could both be heart_rate"), "{twice}");
    let named = Columns {
        named: vec![("pulse".to_owned(), "HR".to_owned())],
        ..Columns::default()
    };
    assert!(error(format!("{NAMES}\n{ROW}\n"), &named).contains("no feature of this name"));
}

#[test]
fn of_two_usual_outcomes_one_has_to_be_named() {
    let text = format!("{NAMES},Outcome\n{ROW},1\n");
    assert_eq!(
        read(&text, &Columns::default()).unwrap_err().to_string(),
        "columns \"died\" and \"Outcome\" could both be the outcome; name one with --label"
    );
    let named = Columns {
        label: Some("Outcome".to_owned()),
        ..Columns::default()
    };
    let table = read(&text, &named).unwrap();
    assert_eq!(table.labels().unwrap().values, [Some(true)]);

    // A further file need have neither the outcome nor the group that the first one has.
    let further = Columns {
        group: Some("patient".to_owned()),
        ..named
    };
    let plain = format!("{NAMES}\n{ROW}\n");
    let error = read(&plain, &further).unwrap_err().to_string();
    assert!(error.contains("for the outcome"), "{error}");
    let further = Columns {
        further: true,
        ..further
    };
    let table = read(&plain, &further).unwrap();
    assert!(table.labels().is_none() && table.groups().is_none());
}

#[test]
fn a_file_without_a_header_shows_no_patient() {
    let error = |text: &str, columns: &Columns| read(text, columns).unwrap_err();
    let none = Columns::default();
    let rows = format!("{ROW}\n{ROW}\n");
    assert_eq!(error(&rows, &none), TableError::NoHeader { columns: 22 });
    // Nor do words, or another separator, or a column that is named.
    let doe = "Doe,yes,no\n";
    assert_eq!(error(doe, &none), TableError::NoHeader { columns: 3 });
    let semicolons = rows.replace(',', ";");
    assert_eq!(
        error(&semicolons, &none),
        TableError::NoHeader { columns: 1 }
    );
    let named = Columns {
        group: Some("RecordID".to_owned()),
        named: vec![("age".to_owned(), "Years".to_owned())],
        ..Columns::default()
    };
    let error = error(&rows, &named);
    assert_eq!(
        error.to_string(),
        "the first line has no column names, in 22 column(s); is the header missing, or the \
         separator no comma?"
    );
    // A name that was asked for is not there, and one cell is a number.
    let numbered = format!("{}\n{ROW}\n", NAMES.replace("RecordID", "132539"));
    let error = read(&numbered, &named).unwrap_err();
    assert_eq!(error, TableError::NoHeader { columns: 22 });
}

#[test]
fn debug_shows_no_value() {
    let table = read(&format!("{NAMES}\n{ROW}\n"), &Columns::default()).unwrap();
    let shown = format!("{table:?}");
    assert!(
        !shown.contains("205") && shown.contains("rows: 1"),
        "{shown}"
    );
}
