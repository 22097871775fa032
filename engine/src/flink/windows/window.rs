//! Which windows a moment is in, as Flink says it. Times are milliseconds since 1970, windows include their start and not
//! their end.

use std::fmt;

use tereza_runtime::{Error, Result};

/// A row is in no more windows than this.
const WINDOWS_MAX: i64 = 10_000;

/// A window function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd)]
pub enum Window {
    /// Windows of one size, each beginning where the one before ends.
    Tumble {
        /// Milliseconds of a window.
        size_ms: i64,
        /// How far the first window begins from 1970.
        offset_ms: i64,
    },
    /// Windows of one size that begin every so often.
    Hop {
        /// Milliseconds from one beginning to the next; divides the size.
        slide_ms: i64,
        /// Milliseconds of a window.
        size_ms: i64,
        /// How far the first window begins from 1970.
        offset_ms: i64,
    },
    /// Windows that begin together and grow by steps up to a size; the next begin there.
    Cumulate {
        /// Milliseconds from one end to the next; divides the size.
        step_ms: i64,
        /// Milliseconds of the greatest window.
        size_ms: i64,
        /// How far the first window begins from 1970.
        offset_ms: i64,
    },
    /// One for each time without a pause of more than the gap. Two rows exactly one gap apart are in the same.
    Session {
        /// Milliseconds of a pause that ends a session.
        gap_ms: i64,
    },
}

impl Window {
    /// The function's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tumble { .. } => "TUMBLE",
            Self::Hop { .. } => "HOP",
            Self::Cumulate { .. } => "CUMULATE",
            Self::Session { .. } => "SESSION",
        }
    }

    /// The window if there is one of these sizes.
    pub fn checked(self) -> Result<Self> {
        let name = self.name();
        let positive = |what: &str, value_ms: i64| match value_ms {
            1.. => Ok(()),
            _ => Err(Error::invalid_input(format!("{name}: the {what} of {value_ms} ms is not above 0"))),
        };
        let divides = |what: &str, part_ms: i64, size_ms: i64| match size_ms % part_ms {
            0 if size_ms / part_ms <= WINDOWS_MAX => Ok(()),
            0 => Err(Error::invalid_input(format!(
                "{name}: every row would be in {} windows, and {WINDOWS_MAX} is the most",
                size_ms / part_ms
            ))),
            _ => Err(Error::invalid_input(format!(
                "{name}: the size of {size_ms} ms is no multiple of the {what} of {part_ms} ms"
            ))),
        };
        match self {
            Self::Tumble { size_ms, .. } => positive("size", size_ms)?,
            Self::Hop { slide_ms, size_ms, .. } => {
                positive("slide", slide_ms)?;
                positive("size", size_ms)?;
                divides("slide", slide_ms, size_ms)?;
            }
            Self::Cumulate { step_ms, size_ms, .. } => {
                positive("step", step_ms)?;
                positive("size", size_ms)?;
                divides("step", step_ms, size_ms)?;
            }
            Self::Session { gap_ms } => positive("gap", gap_ms)?,
        }
        Ok(self)
    }

    /// Starts and ends of the windows that a moment is in, in order. A session is not known from one moment: none.
    pub fn of(self, time_ms: i64) -> impl Iterator<Item = (i64, i64)> {
        let floor = |every_ms: i64, offset_ms: i64| {
            time_ms.saturating_sub(time_ms.wrapping_sub(offset_ms).rem_euclid(every_ms))
        };
        // The first window, how far the next one's start and end are, and how many there are.
        let (start, end, start_step, end_step, count) = match self {
            Self::Tumble { size_ms, offset_ms } => {
                let start = floor(size_ms, offset_ms);
                (start, start.saturating_add(size_ms), 0, 0, 1)
            }
            Self::Hop { slide_ms, size_ms, offset_ms } => {
                let start = floor(slide_ms, offset_ms).saturating_sub(size_ms - slide_ms);
                (start, start.saturating_add(size_ms), slide_ms, slide_ms, size_ms / slide_ms)
            }
            Self::Cumulate { step_ms, size_ms, offset_ms } => {
                let start = floor(size_ms, offset_ms);
                let end = floor(step_ms, offset_ms).saturating_add(step_ms);
                let count = (start.saturating_add(size_ms) - end) / step_ms + 1;
                (start, end, 0, step_ms, count)
            }
            Self::Session { .. } => (0, 0, 0, 0, 0),
        };
        (0..count).map(move |n| (start.saturating_add(n * start_step), end.saturating_add(n * end_step)))
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let offset = |f: &mut fmt::Formatter<'_>, offset_ms: i64| match offset_ms {
            0 => Ok(()),
            _ => write!(f, ", offset={offset_ms}ms"),
        };
        match *self {
            Self::Tumble { size_ms, offset_ms } => {
                write!(f, "TUMBLE size={size_ms}ms")?;
                offset(f, offset_ms)
            }
            Self::Hop { slide_ms, size_ms, offset_ms } => {
                write!(f, "HOP slide={slide_ms}ms, size={size_ms}ms")?;
                offset(f, offset_ms)
            }
            Self::Cumulate { step_ms, size_ms, offset_ms } => {
                write!(f, "CUMULATE step={step_ms}ms, size={size_ms}ms")?;
                offset(f, offset_ms)
            }
            Self::Session { gap_ms } => write!(f, "SESSION gap={gap_ms}ms"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(window: Window, time_ms: i64) -> Vec<(i64, i64)> {
        window.checked().unwrap().of(time_ms).collect()
    }

    #[test]
    fn a_moment_is_in_these_windows() {
        let tumble = Window::Tumble { size_ms: 10, offset_ms: 0 };
        assert_eq!(of(tumble, 0), [(0, 10)]);
        assert_eq!(of(tumble, 9), [(0, 10)]);
        assert_eq!(of(tumble, 10), [(10, 20)]);
        assert_eq!(of(tumble, -1), [(-10, 0)]);
        assert_eq!(of(Window::Tumble { size_ms: 10, offset_ms: 3 }, 2), [(-7, 3)]);
        assert_eq!(of(Window::Tumble { size_ms: 10, offset_ms: -3 }, 6), [(-3, 7)]);
        let hop = Window::Hop { slide_ms: 5, size_ms: 10, offset_ms: 0 };
        assert_eq!(of(hop, 12), [(5, 15), (10, 20)]);
        assert_eq!(of(hop, 10), [(5, 15), (10, 20)]);
        assert_eq!(of(hop, -1), [(-10, 0), (-5, 5)]);
        let cumulate = Window::Cumulate { step_ms: 2, size_ms: 6, offset_ms: 0 };
        assert_eq!(of(cumulate, 0), [(0, 2), (0, 4), (0, 6)]);
        assert_eq!(of(cumulate, 3), [(0, 4), (0, 6)]);
        assert_eq!(of(cumulate, 5), [(0, 6)]);
        assert_eq!(of(cumulate, 6), [(6, 8), (6, 10), (6, 12)]);
    }

    #[test]
    fn every_window_holds_its_moment_and_no_moment_is_forgotten() {
        let windows = [
            Window::Tumble { size_ms: 7, offset_ms: 2 },
            Window::Hop { slide_ms: 3, size_ms: 12, offset_ms: -1 },
            Window::Cumulate { step_ms: 4, size_ms: 12, offset_ms: 5 },
        ];
        for window in windows {
            for time_ms in -50..50 {
                let found = of(window, time_ms);
                assert!(!found.is_empty());
                assert!(found.iter().all(|(start, end)| *start <= time_ms && time_ms < *end), "{window} {time_ms}");
            }
        }
        let hop = Window::Hop { slide_ms: 3, size_ms: 12, offset_ms: -1 };
        assert!((-50..50).all(|time_ms| of(hop, time_ms).len() == 4));
    }

    #[test]
    fn the_ends_of_time_are_no_fault() {
        for time_ms in [i64::MIN, i64::MAX] {
            for window in
                [Window::Hop { slide_ms: 3, size_ms: 12, offset_ms: 1 }, Window::Tumble { size_ms: 7, offset_ms: 1 }]
            {
                assert!(!of(window, time_ms).is_empty());
            }
            assert!(of(Window::Cumulate { step_ms: 4, size_ms: 12, offset_ms: 1 }, time_ms).len() <= 3);
        }
    }

    #[test]
    fn windows_of_wrong_sizes_are_refused() {
        let refused = [
            (Window::Tumble { size_ms: 0, offset_ms: 0 }, "TUMBLE: the size of 0 ms is not above 0"),
            (
                Window::Hop { slide_ms: 3, size_ms: 10, offset_ms: 0 },
                "HOP: the size of 10 ms is no multiple of the slide of 3 ms",
            ),
            (
                Window::Cumulate { step_ms: 1, size_ms: 86_400_000, offset_ms: 0 },
                "CUMULATE: every row would be in 86400000 windows, and 10000 is the most",
            ),
            (Window::Session { gap_ms: -1 }, "SESSION: the gap of -1 ms is not above 0"),
        ];
        for (window, text) in refused {
            assert_eq!(window.checked().unwrap_err().message(), text);
        }
    }
}
