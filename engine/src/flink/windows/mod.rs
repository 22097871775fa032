//! Windows: every row of a relation once for each window that it is in.
//!
//! Flink writes them as functions of tables ([`planner`]) and, in its older form, in GROUP BY ([`group`]). Both become a
//! [`WindowTable`] in the logical plan. A stream job reads the plan as it is; for a statement that ends, [`batch`] puts
//! DataFusion's nodes in its place.

mod batch;
mod group;
mod node;
mod planner;
mod window;

use datafusion::common::{Result, ScalarValue, plan_err};
use datafusion::logical_expr::Expr;

pub(crate) use self::batch::LowerWindows;
pub(crate) use self::group::{functions, rewrite_auxiliary, to_window_tables};

pub use self::node::{WINDOW_END, WINDOW_START, WINDOW_TIME, WindowTable};
pub(crate) use self::planner::{WindowPlanner, show_table};
pub use self::window::Window;

const DAY_MS: i64 = 86_400_000;

/// The milliseconds of an INTERVAL of days or less.
fn interval_ms(what: &str, interval: &Expr) -> Result<i64> {
    let parts = match interval {
        Expr::Literal(ScalarValue::IntervalMonthDayNano(Some(value)), _) => {
            Some((value.months, i64::from(value.days), value.nanoseconds))
        }
        Expr::Literal(ScalarValue::IntervalDayTime(Some(value)), _) => {
            Some((0, i64::from(value.days), i64::from(value.milliseconds) * 1_000_000))
        }
        _ => None,
    };
    match parts {
        Some((0, days, nanoseconds)) if nanoseconds % 1_000_000 == 0 => Ok(days * DAY_MS + nanoseconds / 1_000_000),
        Some((0, _, _)) => plan_err!("{what}: {interval} is no whole number of milliseconds"),
        Some(_) => plan_err!("{what}: {interval} is of months, which have no length"),
        None => plan_err!("{what}: '{interval}' is no INTERVAL that is known before the statement runs"),
    }
}
