//! Flink's SQL.
//!
//! Texts to statements, and tables of streams as they are written, kept and printed: nothing is planned or run there, and
//! nothing of DataFusion is used but its parser. Files in reading order: `statement` (what a text can be), `create` (CREATE TABLE), `table` (what it makes), `like`
//! (tables made from others), `types` (data types), `parameters` (a table in a metastore), `script` (texts of several
//! statements), `dialect` (Flink's rules for the parser of queries), `duration`, `hints`, and `reader` (tokens, places and errors).
//!
//! What queries mean: `speaking` (sessions of this dialect), `settings` (what they can be set to), `secrets`, `windows`, `as_of` (tables that are
//! looked up), `functions`, `arrow` (types of batches), `source` (tables of streams as they are planned), `stream_plan` (plans that
//! never end) and `insert` (what stream jobs do).

mod arrow;
mod as_of;
mod create;
mod dialect;
mod duration;
mod functions;
mod hints;
mod insert;
mod like;
mod parameters;
mod reader;
mod script;
mod secrets;
mod settings;
mod source;
mod speaking;
mod statement;
mod stream_plan;
mod table;
mod types;
mod windows;

pub use as_of::TableAsOf;
pub use create::CreateTable;
pub use dialect::{FlinkDialect, TableArgument, sql_type, table_argument};
pub use duration::duration;
pub use hints::{HINTS_MAX, Hint, HintTarget};
pub use insert::{Sink, StreamInsert};
pub use like::{Feature, Like, Strategy};
pub use parameters::{from_parameters, to_parameters};
pub use reader::{DEPTH_MAX, FlinkQuery, TEXT_BYTES_MAX, parse_expression};
pub use script::{Piece, STATEMENTS_MAX, parse_script, split};
pub use source::{ColumnSource, StreamSource};
pub use statement::{
    CreateDatabase, CreateView, Describe, Drop, DropKind, Explain, ExplainDetail, FlinkStatement, INSERTS_MAX, Insert,
    Pattern, Show, StopJob, parse,
};
pub use stream_plan::{BoundedPlan, StreamPlan};
pub use table::{
    COLUMNS_MAX, ColumnKind, Distribution, DistributionKind, PrimaryKey, StreamColumn, StreamTable, Watermark,
};
pub use types::{FlinkType, Interval, LENGTH_MAX, RowField, TYPE_DEPTH_MAX, TypeRoot};
pub use windows::{WINDOW_END, WINDOW_START, WINDOW_TIME, Window, WindowTable};

pub(crate) use functions::pattern::Pattern as TimePattern;
pub(crate) use secrets::{HIDDEN, is_secret, without_secrets};
pub(crate) use settings::{SETTINGS_MAX, is_setting};
pub(crate) use speaking::{for_others, is_spoken, register_functions, rewrite, speaking};
