use proptest::prelude::*;

use super::*;

/// All windows of a time, by trying out every multiple of the step around it.
fn windows_of(windows: &Windows, time: i64) -> Vec<(i64, i64)> {
    let mut found = Vec::new();
    let base = (time - windows.offset).div_euclid(windows.size) * windows.size + windows.offset;
    for steps in -2 * (windows.size / windows.step)..=3 * (windows.size / windows.step) {
        let end = base + steps * windows.step;
        let start = match windows.kind {
            Kind::Hop => end - windows.size,
            Kind::Cumulate => base,
        };
        if end > start && end - start <= windows.size && (start..end).contains(&time) {
            found.push((start, end));
        }
    }
    found
}

fn any_windows() -> impl Strategy<Value = Windows> {
    (any::<bool>(), 1..8_i64, 1..50_i64, -200..200_i64).prop_map(|(hop, steps, step, offset)| {
        let make = if hop { Windows::hop } else { Windows::cumulate };
        make(steps * step, step, offset).unwrap()
    })
}

proptest! {
    #[test]
    fn slices_and_ends_say_the_same_as_the_definition(windows in any_windows(), time in -1000..1000_i64) {
        let expected = windows_of(&windows, time);
        let slice_end = windows.slice_end(time);
        prop_assert!((slice_end - windows.slice()..slice_end).contains(&time));
        let mut found = Vec::new();
        let mut watermark = i64::MIN;
        while let Some(end) = windows.first_open_end(slice_end, watermark) {
            found.push((windows.start(end), end));
            watermark = end - 1;
        }
        prop_assert_eq!(&found, &expected);
        prop_assert_eq!(found.last().unwrap().1, windows.last_end(slice_end));
    }

    #[test]
    fn the_first_open_window_is_the_first_that_is_not_closed(
        windows in any_windows(), time in -1000..1000_i64, watermark in -1500..1500_i64,
    ) {
        let expected = windows_of(&windows, time).into_iter().map(|(_, end)| end).find(|end| !is_closed(*end, watermark));
        prop_assert_eq!(windows.first_open_end(windows.slice_end(time), watermark), expected);
    }
}

#[test]
fn the_end_of_the_input_closes_all() {
    let windows = Windows::hop(10, 2, 0).unwrap();
    assert_eq!(windows.first_open_end(windows.slice_end(5), i64::MAX), None);
}

#[test]
fn what_is_no_window_is_refused() {
    assert!(Windows::tumble(0, 0).is_err());
    assert!(Windows::hop(10, 0, 0).is_err());
    assert!(Windows::hop(10, 4, 0).unwrap_err().message().contains("no multiple"));
    assert!(Windows::cumulate(i64::MAX, 1, 0).is_err());
    assert!(Windows::hop(1_000_000, 1, 0).unwrap_err().message().contains("more than 10000"));
}
