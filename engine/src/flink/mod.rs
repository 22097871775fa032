//! Flink's SQL.
//!
//! Texts to statements, and tables of streams as they are written, kept and printed: nothing is planned or run there, and
//! nothing of DataFusion is used but its parser. Files in reading order: `statement` (what a text can be), `create` (CREATE TABLE), `table` (what it makes), `like`
//! (tables made from others), `types` (data types), `parameters` (a table in a metastore), `script` (texts of several
//! statements), `dialect` (Flink's rules for the parser of queries), `hints`, and `reader` (tokens, places and errors).
//!
//! What queries mean: `speaking` (sessions of this dialect), `windows`, `functions`, and `stream_plan` (plans that never end).

mod create;
mod dialect;
mod functions;
mod hints;
mod like;
mod parameters;
mod reader;
mod script;
mod speaking;
mod statement;
mod stream_plan;
mod table;
mod types;
mod windows;

pub use create::CreateTable;
pub use dialect::{FlinkDialect, TableArgument, sql_type, table_argument};
pub use hints::{HINTS_MAX, Hint, HintTarget};
pub use like::{Feature, Like, Strategy};
pub use parameters::{from_parameters, to_parameters};
pub use reader::{DEPTH_MAX, FlinkQuery, TEXT_BYTES_MAX, parse_expression};
pub use script::{Piece, STATEMENTS_MAX, parse_script, split};
pub use statement::{
    CreateDatabase, CreateView, Describe, Drop, DropKind, Explain, ExplainDetail, FlinkStatement, INSERTS_MAX, Insert,
    Pattern, Show, StopJob, parse,
};
pub use stream_plan::StreamPlan;
pub use table::{
    COLUMNS_MAX, ColumnKind, Distribution, DistributionKind, PrimaryKey, StreamColumn, StreamTable, Watermark,
};
pub use types::{FlinkType, Interval, LENGTH_MAX, RowField, TYPE_DEPTH_MAX, TypeRoot};
pub use windows::{WINDOW_END, WINDOW_START, WINDOW_TIME, Window, WindowTable};

pub(crate) use speaking::{is_spoken, rewrite, speaking};
