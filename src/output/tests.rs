use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, Decimal128Array, Float64Array, Int64Array, ListArray, NullArray, StringArray,
    TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Field, Int32Type};
use arrow::ipc::reader::StreamReader;

use super::*;

const WIDE: Style = Style { width: None, color: false, expanded: false };

fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    let fields: Vec<Field> =
        columns.iter().map(|(name, array)| Field::new(*name, array.data_type().clone(), true)).collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns.into_iter().map(|(_, array)| array).collect()).unwrap()
}

fn strings(values: Vec<Option<&str>>) -> ArrayRef {
    Arc::new(StringArray::from(values))
}

fn integers(values: Vec<Option<i64>>) -> ArrayRef {
    Arc::new(Int64Array::from(values))
}

fn written(format: Format, style: Style, batches: &[RecordBatch]) -> Vec<u8> {
    let mut writer = Writer::new(format, style, &batches[0].schema(), Vec::new()).unwrap();
    for batch in batches {
        writer.write(batch).unwrap();
    }
    writer.finish().unwrap()
}

fn text(format: Format, style: Style, batches: &[RecordBatch]) -> String {
    String::from_utf8(written(format, style, batches)).unwrap()
}

#[test]
fn a_table_aligns_numbers_right_and_counts_wide_letters() {
    let rows = batch(vec![
        ("n", integers(vec![Some(1), Some(-230), None])),
        ("place", strings(vec![Some("東京"), Some("ab"), None])),
    ]);
    let expected = "\
┌──────┬───────┐
│ n    │ place │
├──────┼───────┤
│    1 │ 東京  │
│ -230 │ ab    │
│ NULL │ NULL  │
└──────┴───────┘
";
    assert_eq!(text(Format::Table, WIDE, &[rows]), expected);
}

#[test]
fn an_empty_table_has_its_heading() {
    let rows = batch(vec![("n", integers(vec![]))]);
    assert_eq!(text(Format::Table, WIDE, &[rows]), "┌───┐\n│ n │\n├───┤\n└───┘\n");
}

#[test]
fn a_value_of_two_lines_makes_its_row_as_high() {
    let rows = batch(vec![("k", integers(vec![Some(7)])), ("plan", strings(vec![Some("Sort\n  Scan")]))]);
    let expected = "\
┌───┬────────┐
│ k │ plan   │
├───┼────────┤
│ 7 │ Sort   │
│   │   Scan │
└───┴────────┘
";
    assert_eq!(text(Format::Table, WIDE, &[rows]), expected);
}

#[test]
fn control_characters_never_reach_the_terminal() {
    let rows = batch(vec![("s", strings(vec![Some("\u{1b}[2Ja\tb")]))]);
    let table = text(Format::Table, WIDE, &[rows]);
    assert!(table.contains(r"\u{1b}[2Ja\tb"), "{table}");
    assert!(!table.contains('\u{1b}'));
}

#[test]
fn long_text_is_cut_on_a_terminal_and_numbers_are_not() {
    let rows = batch(vec![
        ("n", integers(vec![Some(1_234_567_890_123)])),
        ("a", strings(vec![Some("abcdefghijklmnopqrstuvwxyz")])),
        ("b", strings(vec![Some("short")])),
    ]);
    let table = text(Format::Table, Style { width: Some(45), ..WIDE }, std::slice::from_ref(&rows));
    assert!(table.contains("│ 1234567890123 │ abcdefghijklmnop… │ short │"), "{table}");
    assert!(table.lines().all(|line| unicode_width::UnicodeWidthStr::width(line) == 45), "{table}");

    let whole = text(Format::Table, WIDE, &[rows]);
    assert!(whole.contains("abcdefghijklmnopqrstuvwxyz"));
}

#[test]
fn null_is_set_off_on_a_terminal_only() {
    let rows = batch(vec![("s", strings(vec![None]))]);
    let table = text(Format::Table, Style { color: true, ..WIDE }, std::slice::from_ref(&rows));
    assert!(table.contains("│ \u{1b}[90mNULL\u{1b}[0m │"), "{table:?}");
    assert!(!text(Format::Table, WIDE, &[rows]).contains('\u{1b}'));
}

#[test]
fn rows_after_the_first_thousand_run_over_and_are_not_lost() {
    let first = batch(vec![("s", strings(vec![Some("x"); table::SIZING_ROWS]))]);
    let later = batch(vec![("s", strings(vec![Some("a longer value")]))]);
    let table = text(Format::Table, WIDE, &[first, later]);
    assert!(table.starts_with("┌───┐\n"));
    assert!(table.ends_with("│ x │\n│ a longer value │\n└───┘\n"));
}

#[test]
fn rows_are_written_before_the_end_once_the_columns_are_sized() {
    let first = batch(vec![("s", strings(vec![Some("x"); table::SIZING_ROWS]))]);
    let mut out = Vec::new();
    let mut writer = Writer::new(Format::Table, WIDE, &first.schema(), &mut out).unwrap();
    writer.write(&first).unwrap();
    drop(writer);
    assert_eq!(String::from_utf8(out).unwrap().lines().count(), table::SIZING_ROWS + 3);
}

#[test]
fn expanded_rows_list_their_columns() {
    let rows = batch(vec![("id", integers(vec![Some(1), None])), ("note", strings(vec![Some("a\nb"), Some("c")]))]);
    let expected = "\
─[ row 1 ]─
id   │ 1
note │ a
     │ b
─[ row 2 ]─
id   │ NULL
note │ c
";
    assert_eq!(text(Format::Table, Style { expanded: true, ..WIDE }, &[rows]), expected);
}

#[test]
fn csv_quotes_what_needs_it_and_tells_null_from_empty() {
    let rows = batch(vec![
        ("a,b", strings(vec![Some("x"), Some(""), None, Some("say \"hi\""), Some("two\nlines")])),
        ("n", integers(vec![Some(1), Some(2), Some(3), None, Some(5)])),
    ]);
    assert_eq!(text(Format::Csv, WIDE, &[rows]), "\"a,b\",n\nx,1\n\"\",2\n,3\n\"say \"\"hi\"\"\",\n\"two\nlines\",5\n");
}

#[test]
fn csv_of_one_column_has_no_empty_lines() {
    let rows = batch(vec![("x", Arc::new(NullArray::new(2)) as ArrayRef)]);
    assert_eq!(text(Format::Csv, WIDE, &[rows]), "x\n\"\"\n\"\"\n");
}

#[test]
fn csv_writes_nested_values() {
    let list = ListArray::from_iter_primitive::<Int32Type, _, _>(vec![Some(vec![Some(1), Some(2)])]);
    let rows = batch(vec![("l", Arc::new(list)), ("n", integers(vec![Some(1)]))]);
    assert_eq!(text(Format::Csv, WIDE, &[rows]), "l,n\n\"[1, 2]\",1\n");
}

#[test]
fn json_has_a_line_for_each_row_with_every_key() {
    let decimals = Decimal128Array::from(vec![Some(12345), None]).with_precision_and_scale(10, 2).unwrap();
    let times = TimestampMicrosecondArray::from(vec![Some(1_700_000_000_500_000), None]);
    let rows = batch(vec![
        ("d", Arc::new(decimals) as ArrayRef),
        ("t", Arc::new(times)),
        ("f", Arc::new(Float64Array::from(vec![Some(f64::NAN), Some(0.5)]))),
        ("s", strings(vec![Some("a\"b"), None])),
    ]);
    assert_eq!(
        text(Format::Json, WIDE, &[rows]),
        "{\"d\":123.45,\"t\":\"2023-11-14T22:13:20.500\",\"f\":null,\"s\":\"a\\\"b\"}\n\
         {\"d\":null,\"t\":null,\"f\":0.5,\"s\":null}\n"
    );
}

#[test]
fn arrow_can_be_read_back() {
    let rows = batch(vec![("n", integers(vec![Some(1), None])), ("s", strings(vec![Some("é"), None]))]);
    let bytes = written(Format::Arrow, WIDE, std::slice::from_ref(&rows));
    let read: Vec<RecordBatch> = StreamReader::try_new(bytes.as_slice(), None).unwrap().map(Result::unwrap).collect();
    assert_eq!(read, [rows]);
}

#[test]
fn a_null_of_a_dictionary_is_a_null() {
    let nothing =
        arrow::array::new_null_array(&DataType::Dictionary(Box::new(DataType::Int8), Box::new(DataType::Utf8)), 1);
    assert_eq!(text(Format::Csv, WIDE, &[batch(vec![("d", nothing), ("n", integers(vec![Some(1)]))])]), "d,n\n,1\n");
}

#[test]
fn a_reader_that_left_is_told_from_other_failures() {
    struct Failing(io::ErrorKind);
    impl Write for Failing {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let rows = batch(vec![("n", integers(vec![Some(1)]))]);
    for format in [Format::Table, Format::Csv, Format::Json, Format::Arrow] {
        for (kind, closed) in [(io::ErrorKind::BrokenPipe, true), (io::ErrorKind::StorageFull, false)] {
            let error = Writer::new(format, WIDE, &rows.schema(), Failing(kind))
                .and_then(|mut writer| writer.write(&rows).and_then(|()| writer.finish()))
                .err()
                .unwrap();
            assert_eq!(is_closed(&error), closed, "{format:?} {error}");
        }
    }
}
