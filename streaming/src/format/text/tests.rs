use arrow::datatypes::TimeUnit;
use proptest::prelude::*;

use super::*;

fn text(write: impl FnOnce(&mut Vec<u8>)) -> String {
    let mut out = Vec::new();
    write(&mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn decimals_are_rounded_half_up_and_bounded() {
    let cases = [
        ("1.005", 10, 2, Some(Some(101))),
        ("-1.005", 10, 2, Some(Some(-101))),
        ("0.004", 10, 2, Some(Some(0))),
        ("99.995", 4, 2, Some(None)),
        ("99.994", 4, 2, Some(Some(9_999))),
        ("1e3", 10, 2, Some(Some(100_000))),
        ("1e-3", 10, 2, Some(Some(0))),
        ("5e-3", 10, 2, Some(Some(1))),
        (".5", 10, 0, Some(Some(1))),
        ("5.", 10, 0, Some(Some(5))),
        ("0e999999999", 10, 2, Some(Some(0))),
        ("1e999999999", 10, 2, Some(None)),
        ("1e-999999999", 10, 2, Some(Some(0))),
        ("1e9999999999", 10, 2, None),
        ("", 10, 2, None),
        (".", 10, 2, None),
        ("1..2", 10, 2, None),
        ("+", 10, 2, None),
        ("1e", 10, 2, None),
        ("NaN", 10, 2, None),
        ("99999999999999999999999999999999999999", 38, 0, Some(Some(10_i128.pow(38) - 1))),
        ("99999999999999999999999999999999999999.5", 38, 0, Some(None)),
    ];
    for (given, precision, scale, expected) in cases {
        assert_eq!(parse_decimal(given, precision, scale), expected, "{given}");
    }
}

#[test]
fn decimals_are_written_as_java_does() {
    let cases = [
        (0, 2, "0", "0.00"),
        (100, 2, "1", "1.00"),
        (10_000, 2, "1E+2", "100.00"),
        (12_345, 2, "123.45", "123.45"),
        (-5, 1, "-0.5", "-0.5"),
        (27, 9, "2.7E-8", "0.000000027"),
        (1, 6, "0.000001", "0.000001"),
        (1, 7, "1E-7", "0.0000001"),
        (120, 0, "1.2E+2", "120"),
        (i128::MIN + 1, 0, "-170141183460469231731687303715884105727", "-170141183460469231731687303715884105727"),
    ];
    for (value, scale, scientific, plain) in cases {
        assert_eq!(text(|out| write_decimal(out, value, scale, DecimalForm::Scientific)), scientific);
        assert_eq!(text(|out| write_decimal(out, value, scale, DecimalForm::Plain)), plain);
    }
}

#[test]
fn floats_are_written_as_java_does() {
    let cases = [
        (0.0, "0.0"),
        (-0.0, "-0.0"),
        (1.0, "1.0"),
        (0.001, "0.001"),
        (0.000_999, "9.99E-4"),
        (9_999_999.0, "9999999.0"),
        (10_000_000.0, "1.0E7"),
        (123_456.789, "123456.789"),
        (1.5e300, "1.5E300"),
        (f64::MIN_POSITIVE, "2.2250738585072014E-308"),
        (f64::NAN, "NaN"),
        (f64::NEG_INFINITY, "-Infinity"),
    ];
    for (value, expected) in cases {
        assert_eq!(text(|out| write_f64(out, value)), expected);
    }
    assert_eq!(text(|out| write_f32(out, 1.1)), "1.1");
    assert_eq!(text(|out| write_f32(out, 16_777_216.0)), "1.6777216E7");
}

#[test]
fn nanoseconds_are_kept() {
    let form = TimestampForm::Sql;
    let units = parse_timestamp("2020-01-02 03:04:05.123456789", form, false, TimeUnit::Nanosecond).unwrap();
    assert_eq!(units, 1_577_934_245_123_456_789);
    let written = text(|out| write_timestamp(out, units, TimeUnit::Nanosecond, form, true));
    assert_eq!(written, "2020-01-02 03:04:05.123456789Z");
    assert_eq!(parse_timestamp("9999-01-01 00:00:00", form, false, TimeUnit::Nanosecond), None);
}

proptest! {
    #[test]
    fn days_are_read_as_they_are_written(days in -4_000_000_i64..4_000_000) {
        let written = text(|out| write_date(out, days));
        prop_assert_eq!(parse_date(&written), Some(days));
    }

    #[test]
    fn timestamps_are_read_as_they_are_written(ms in -100_000_000_000_000_i64..300_000_000_000_000, is_zoned: bool, is_iso: bool) {
        let form = if is_iso { TimestampForm::Iso8601 } else { TimestampForm::Sql };
        let unit = TimeUnit::Millisecond;
        let written = text(|out| write_timestamp(out, ms, unit, form, is_zoned));
        prop_assert_eq!(parse_timestamp(&written, form, is_zoned, unit), Some(ms));
    }

    #[test]
    fn floats_are_read_as_they_are_written(value: f64, small: f32) {
        if !value.is_nan() {
            prop_assert_eq!(parse_f64(&text(|out| write_f64(out, value))), Some(value));
        }
        if !small.is_nan() {
            prop_assert_eq!(parse_f32(&text(|out| write_f32(out, small))), Some(small));
        }
    }

    #[test]
    fn decimals_are_read_as_they_are_written(value in -(10_i128.pow(38))+1..10_i128.pow(38), scale in 0_i8..=38) {
        for form in [DecimalForm::Plain, DecimalForm::Scientific] {
            let written = text(|out| write_decimal(out, value, scale, form));
            prop_assert_eq!(parse_decimal(&written, 38, scale), Some(Some(value)), "{}", written);
        }
    }

    #[test]
    fn no_text_does_harm(given in "[0-9+:T Z.eE-]{0,40}|.{0,40}") {
        for form in [TimestampForm::Sql, TimestampForm::Iso8601] {
            for unit in [TimeUnit::Second, TimeUnit::Nanosecond] {
                parse_timestamp(&given, form, false, unit);
                parse_timestamp(&given, form, true, unit);
            }
        }
        parse_date(&given);
        parse_sql_date(&given);
        parse_time(&given);
        parse_iso_time(&given);
        parse_decimal(&given, 38, 10);
        parse_f64(&given);
    }
}
