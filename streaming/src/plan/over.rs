//! OVER: functions of each row and the rows before it, by event time.

use arrow::array::ArrayRef;
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::logical_expr::expr::{NullTreatment, WindowFunction, WindowFunctionParams};
use datafusion::logical_expr::{Expr, ExprSchemable, Window, WindowFrame, WindowFrameBound, WindowFrameUnits};
use tereza_runtime::error::Result;

use super::aggregate::kind_of;
use super::{Named, Places, Planner, Stream, failed, name_of, no_event_time, unsupported, without_alias};
use crate::operator::over::{Frame, Over, OverCall, OverKind};

const FUNCTIONS_HINT: &str =
    "OVER of a stream has SUM, COUNT, AVG, MIN, MAX, FIRST_VALUE, LAST_VALUE, ROW_NUMBER and LAG";
const FRAME_HINT: &str = "write ROWS or RANGE BETWEEN … PRECEDING AND CURRENT ROW";
const ORDER_HINT: &str = "write OVER (PARTITION BY … ORDER BY ts), where ts is the column that the WATERMARK is of";

/// Functions over the same rows in the same order.
struct Frames {
    keys: Vec<usize>,
    frame: Frame,
    calls: Vec<OverCall>,
    /// The number of each call in the plan.
    numbers: Vec<usize>,
}

impl Planner<'_> {
    /// The rows of the input with the results of functions. Frames that differ are operators one after the other.
    pub(super) fn over(&mut self, window: &Window) -> Result<Stream> {
        let schema = window.input.schema();
        let input = self.node(&window.input)?;
        input.mode.require_append("OVER")?;
        let own = schema.fields().len();
        let mut columns: Vec<Named> =
            schema.columns().into_iter().map(|column| (Expr::Column(column.clone()), column.name)).collect();
        let mut place = |expression: &Expr| match without_alias(expression) {
            Expr::Column(column) => schema.index_of_column(column).map_err(failed),
            other => match columns.iter().position(|(known, _)| known == other) {
                Some(at) => Ok(at),
                None => {
                    columns.push((other.clone(), format!("__over_{}", columns.len())));
                    Ok(columns.len() - 1)
                }
            },
        };
        let mut frames: Vec<Frames> = Vec::new();
        let mut order = None;
        for (number, expression) in window.window_expr.iter().enumerate() {
            let Expr::WindowFunction(function) = without_alias(expression) else {
                return Err(unsupported(&expression.to_string()));
            };
            let time = time_of(function, schema, &input)?;
            if *order.get_or_insert(time) != time {
                return Err(unsupported("OVER by two times"));
            }
            let keys = function.params.partition_by.iter().map(&mut place).collect::<Result<Vec<_>>>()?;
            let Function { kind, argument, frame } = function_of(function, schema)?;
            let call = OverCall {
                kind,
                column: argument.map(&mut place).transpose()?,
                filter: function.params.filter.as_deref().map(&mut place).transpose()?,
                name: window.schema.field(own + number).name().clone(),
            };
            match frames.iter_mut().find(|known| known.keys == keys && known.frame == frame) {
                Some(known) => {
                    known.calls.push(call);
                    known.numbers.push(number);
                }
                None => frames.push(Frames { keys, frame, calls: vec![call], numbers: vec![number] }),
            }
        }
        let Some(time) = order else { return Ok(input) };
        let mut stream = self.calc(input, schema, None, Some(columns))?;
        let windows = stream.windows;
        let mut places: Vec<usize> = (0..window.schema.fields().len()).collect();
        for Frames { keys, frame, calls, numbers } in frames {
            let before = stream.schema.fields().len();
            for (at, number) in numbers.into_iter().enumerate() {
                places[own + number] = before + at;
            }
            // Where the watermark ends what is kept, nothing else has to.
            let ttl_ms = self.settings.state_ttl_ms.filter(|_| !matches!(frame, Frame::Range(Some(_))));
            let kept = Places::by([keys.clone()]);
            let operator = Over::new(&stream.schema, &stream.mode, time, keys, frame, calls)?;
            stream = Stream { places: kept, ..self.add(Box::new(operator.with_time_to_live(ttl_ms)?), &[stream])? };
        }
        let stream = self.arranged(stream, window.schema.as_ref(), &places)?;
        // Rows come out when the watermark reaches this time; another one of theirs it may have passed long before.
        Ok(Stream { times: vec![time], windows, ..stream })
    }
}

/// The event time that a function's rows are ordered by.
fn time_of(function: &WindowFunction, schema: &DFSchema, input: &Stream) -> Result<usize> {
    let WindowFunctionParams { order_by, .. } = &function.params;
    let sort = match order_by.as_slice() {
        [sort] => sort,
        [] => return Err(unsupported("OVER without ORDER BY").with_hint(ORDER_HINT)),
        _ => return Err(unsupported("OVER with ORDER BY of several columns").with_hint(ORDER_HINT)),
    };
    let at = match without_alias(&sort.expr) {
        Expr::Column(column) => Some(schema.index_of_column(column).map_err(failed)?),
        _ => None,
    };
    let name = name_of(&sort.expr);
    match at.filter(|at| input.times.contains(at)) {
        Some(at) if sort.asc => Ok(at),
        Some(_) => Err(unsupported("OVER with ORDER BY … DESC").with_hint(ORDER_HINT)),
        None if function.fun.name().eq_ignore_ascii_case("row_number") => {
            let what = format!("ROW_NUMBER ordered by '{name}' without a bound");
            Err(unsupported(&what).with_hint("ask for the first rows only: WHERE rn <= 10 around it"))
        }
        None => Err(no_event_time("OVER with ORDER BY", &name)),
    }
}

/// What a function is to the operator.
struct Function<'e> {
    kind: OverKind,
    argument: Option<&'e Expr>,
    frame: Frame,
}

fn function_of<'e>(function: &'e WindowFunction, schema: &DFSchema) -> Result<Function<'e>> {
    let WindowFunctionParams { args, window_frame, null_treatment, distinct, .. } = &function.params;
    let name = function.fun.name().to_lowercase();
    let is_value = matches!(name.as_str(), "first_value" | "last_value");
    match null_treatment {
        None => {}
        Some(NullTreatment::IgnoreNulls) if is_value => {}
        Some(treatment) => {
            let hint = "FIRST_VALUE and LAST_VALUE pass NULL over, as in Flink, and LAG takes it as a value";
            return Err(unsupported(&format!("{treatment} in {name}")).with_hint(hint));
        }
    }
    let (kind, argument, frame) = match (name.as_str(), args.as_slice()) {
        ("row_number", []) => (OverKind::RowNumber, None, Frame::Rows(None)),
        ("lag", [argument, others @ ..]) => (lag(argument, others, schema)?, Some(argument), Frame::Rows(None)),
        ("lead", _) => return Err(unsupported("LEAD, which is of rows that have not come,").with_hint(FUNCTIONS_HINT)),
        ("first_value", [argument]) => (OverKind::FirstValue, Some(argument), frame_of(window_frame)?),
        ("last_value", [argument]) => (OverKind::LastValue, Some(argument), frame_of(window_frame)?),
        (name, args) => {
            let (kind, argument) =
                kind_of(name, args, *distinct, "with OVER").map_err(|error| error.with_hint(FUNCTIONS_HINT))?;
            (OverKind::Aggregate(kind), argument, frame_of(window_frame)?)
        }
    };
    Ok(Function { kind, argument, frame })
}

/// `LAG(argument [, offset [, default]])`
fn lag(argument: &Expr, others: &[Expr], schema: &DFSchema) -> Result<OverKind> {
    let literal = |expression: &Expr| match without_alias(expression) {
        Expr::Literal(value, _) => Ok(value.clone()),
        other => Err(unsupported(&format!("LAG with '{other}', which is known only when the statement runs,"))),
    };
    let offset = match others.first().map(literal).transpose()? {
        None => 1,
        Some(offset) => {
            let number = offset.cast_to(&arrow::datatypes::DataType::Int64).map_err(failed)?;
            let rows = match number {
                ScalarValue::Int64(Some(rows)) => usize::try_from(rows).ok(),
                _ => None,
            };
            rows.ok_or_else(|| unsupported(&format!("LAG by {offset} rows")).with_hint(FUNCTIONS_HINT))?
        }
    };
    let default = match others.get(1).map(literal).transpose()? {
        Some(value) if !value.is_null() => {
            let data_type = argument.get_type(schema).map_err(failed)?;
            let value: ArrayRef = value.cast_to(&data_type).and_then(|value| value.to_array()).map_err(failed)?;
            Some(value)
        }
        _ => None,
    };
    Ok(OverKind::Lag { offset, default })
}

/// The frame of the operator; those that do not end with the current row are refused.
fn frame_of(frame: &WindowFrame) -> Result<Frame> {
    let refused = |what: &str| unsupported(&format!("OVER with a frame {what}")).with_hint(FRAME_HINT);
    match &frame.end_bound {
        WindowFrameBound::CurrentRow => {}
        WindowFrameBound::Preceding(_) => return Err(refused("that ends before the current row")),
        WindowFrameBound::Following(_) => return Err(refused("that ends after the current row")),
    }
    let before = match &frame.start_bound {
        WindowFrameBound::CurrentRow => None,
        WindowFrameBound::Preceding(value) => Some(value),
        WindowFrameBound::Following(_) => return Err(refused("that begins after the current row")),
    };
    let is_unbounded = before.is_some_and(ScalarValue::is_null);
    match frame.units {
        WindowFrameUnits::Rows if is_unbounded => Ok(Frame::Rows(None)),
        WindowFrameUnits::Rows => {
            let rows = match before {
                None => Some(0),
                Some(ScalarValue::UInt64(Some(rows))) => usize::try_from(*rows).ok(),
                Some(_) => None,
            };
            rows.map(|rows| Frame::Rows(Some(rows))).ok_or_else(|| refused("of no number of rows"))
        }
        WindowFrameUnits::Range if is_unbounded => Ok(Frame::Range(None)),
        WindowFrameUnits::Range => {
            let before_ms = match before {
                None => Some(0),
                Some(ScalarValue::IntervalMonthDayNano(Some(value)))
                    if value.months == 0 && value.nanoseconds % 1_000_000 == 0 =>
                {
                    Some(i64::from(value.days) * 86_400_000 + value.nanoseconds / 1_000_000)
                }
                Some(_) => None,
            };
            let before_ms = before_ms.filter(|before_ms| *before_ms >= 0);
            before_ms
                .map(|before_ms| Frame::Range(Some(before_ms)))
                .ok_or_else(|| refused("that is no INTERVAL of whole milliseconds"))
        }
        WindowFrameUnits::Groups => Err(refused("of GROUPS")),
    }
}
