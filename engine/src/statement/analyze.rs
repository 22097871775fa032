//! ANALYZE TABLE: counts of rows, files and bytes into parameters, and statistics of columns.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::Column as ColumnName;
use datafusion::functions::expr_fn::octet_length;
use datafusion::functions_aggregate::count::count_all;
use datafusion::functions_aggregate::expr_fn::{approx_distinct, avg, count, max, min};
use datafusion::logical_expr::{Expr, cast, lit, when};
use datafusion::prelude::DataFrame;
use datafusion::scalar::ScalarValue;
use datafusion::sql::sqlparser::tokenizer::Token;
use tereza_catalog::model::{Column, ColumnStatistics, Parameters, Partition, Range, Table, TableKind};
use tereza_catalog::store::{PartitionFilter, Snapshot};
use tereza_runtime::{Error, Result};

use super::ddl::{Spec, change, measure, settle};
use super::errors;
use super::parse::{Reader, TableName};
use super::{Planned, Planner};
use crate::error::from_datafusion;
use crate::formats::spark;
use crate::session::Session;
use crate::types::{partition_scalar, partition_text, table_fields};

/// `ANALYZE [TABLE] name [PARTITION (…)] [COMPUTE STATISTICS [NOSCAN | FOR ALL COLUMNS | FOR COLUMNS [a, …]]]`
pub(super) struct Analyze {
    name: TableName,
    spec: Option<Spec>,
    columns: Columns,
}

/// Which columns get statistics.
enum Columns {
    /// None, and the rows are not counted: sizes come from listing files.
    NoScan,
    None,
    All,
    Some(Vec<String>),
}

/// Reads an ANALYZE statement.
pub(super) fn parse(reader: &mut Reader<'_>) -> Result<Analyze> {
    reader.expect("ANALYZE")?;
    reader.take("TABLE");
    let name = reader.table_name()?;
    name.require_tereza("ANALYZE TABLE")?;
    let spec = if reader.take("PARTITION") { Some(Spec::parse(reader)?) } else { None };
    let forms = [
        "COMPUTE STATISTICS NOSCAN",
        "COMPUTE STATISTICS FOR ALL COLUMNS",
        "COMPUTE STATISTICS FOR COLUMNS",
        "COMPUTE STATISTICS",
    ];
    let columns = match reader.take_one(&forms) {
        Some("COMPUTE STATISTICS NOSCAN") => Columns::NoScan,
        Some("COMPUTE STATISTICS FOR COLUMNS") => Columns::parse(reader)?,
        Some("COMPUTE STATISTICS") => Columns::None,
        // Presto's ANALYZE says no more than the table.
        _ => Columns::All,
    };
    Ok(Analyze { name, spec, columns })
}

impl Columns {
    fn parse(reader: &mut Reader<'_>) -> Result<Self> {
        if reader.at_token(&Token::EOF) || reader.at_token(&Token::SemiColon) {
            return Ok(Self::All);
        }
        let name = |reader: &mut Reader<'_>| Ok(reader.identifier()?.to_lowercase());
        if reader.at_token(&Token::LParen) {
            return Ok(Self::Some(reader.list(name)?));
        }
        let mut names = vec![name(reader)?];
        while reader.take_token(&Token::Comma) {
            names.push(name(reader)?);
        }
        Ok(Self::Some(names))
    }

    /// The columns of the table's files that get statistics.
    fn of(&self, table: &Table) -> Result<Vec<Column>> {
        match self {
            Self::NoScan | Self::None => Ok(Vec::new()),
            _ if spark::hides_columns(table) => Err(Error::unsupported(format!(
                "statistics of the columns of {}.{}, which are Spark's own",
                table.database, table.name
            ))),
            Self::All => Ok(table.storage.columns.clone()),
            Self::Some(names) => names
                .iter()
                .map(|name| match table.storage.columns.iter().find(|column| column.name == *name) {
                    Some(column) => Ok(column.clone()),
                    None => {
                        let error = Error::invalid_input(format!(
                            "column '{name}' not found in {}.{}",
                            table.database, table.name
                        ));
                        let known = table.storage.columns.iter().map(|column| column.name.as_str());
                        Err(errors::did_you_mean(error, name, known))
                    }
                })
                .collect(),
        }
    }
}

impl Analyze {
    pub(super) fn plan(self, planner: &Planner<'_>) -> Result<Planned> {
        let session = Arc::clone(planner.session);
        Ok(Planned::command(async move { self.run(&session).await }))
    }

    async fn run(self, session: &Session) -> Result<()> {
        let store = &session.engine.catalog;
        let found = errors::table_of_files(session, &self.name, "ANALYZE").await?.table;
        if matches!(found.kind, TableKind::View | TableKind::MaterializedView) {
            return Err(Error::invalid_input(format!("{} is a view, which has no files to analyze", self.name)));
        }
        let filter = match &self.spec {
            Some(spec) => spec.filter(&found)?,
            None => PartitionFilter::default(),
        };
        let mut snapshot = store.snapshot(&found.database, &found.name, &filter).await?;
        settle(session, &snapshot.pending).await?;
        if let Some(spec) = &self.spec {
            snapshot.partitions.retain(|partition| spec.matches(&found, partition));
            if snapshot.partitions.is_empty() {
                return Err(Error::not_found(format!("{} has no partition ({spec})", self.name))
                    .with_hint("see SHOW PARTITIONS"));
            }
        }
        let columns = self.columns.of(&snapshot.table.table)?;
        let rows = match self.columns {
            Columns::NoScan => None,
            _ => Some(self.rows(session, &snapshot).await?),
        };
        // Statistics are read before the commit: it refuses if the table was changed while they were.
        let statistics = self.statistics(session, &snapshot, &columns).await?;
        let (of_table, of_partitions) = self.parameters(session, &snapshot, rows.as_deref(), &columns).await?;
        change(session, &found.database, &found.name, snapshot.table.version, |commit| {
            commit.table_parameters = of_table;
            commit.partition_parameters = of_partitions;
        })
        .await?;
        for (partition, statistics) in &statistics {
            store.set_column_statistics(&found.database, &found.name, partition.as_deref(), statistics).await?;
        }
        Ok(())
    }

    /// Number of rows of each partition of the snapshot, in its order, or of the whole table.
    async fn rows(&self, session: &Session, snapshot: &Snapshot) -> Result<Vec<i64>> {
        let table = &snapshot.table.table;
        let frame = session.context.table(self.name.reference()).await.map_err(from_datafusion)?;
        if table.partition_keys.is_empty() {
            let counted = frame.count().await.map_err(from_datafusion)?;
            return Ok(vec![i64::try_from(counted).unwrap_or(i64::MAX)]);
        }
        // Only the partitions that were named are read; each has the values that name them.
        let frame = match (&self.spec, snapshot.partitions.first()) {
            (Some(spec), Some(partition)) => {
                frame.filter(is_in(table, partition, |key| spec.names(key))?).map_err(from_datafusion)?
            }
            _ => frame,
        };
        let positions: HashMap<&[String], usize> =
            snapshot.partitions.iter().zip(0..).map(|(partition, at)| (partition.values.as_slice(), at)).collect();
        let keys: Vec<Expr> = table.partition_keys.iter().map(|key| named(&key.name)).collect();
        let counted = frame.aggregate(keys, vec![count_all().alias("rows")]).map_err(from_datafusion)?;
        let mut rows = vec![0; snapshot.partitions.len()];
        for batch in counted.collect().await.map_err(from_datafusion)? {
            for row in 0..batch.num_rows() {
                let values = (0..table.partition_keys.len())
                    .map(|key| partition_text(&value(&batch, key, row)?))
                    .collect::<Result<Vec<_>>>()?;
                if let Some(position) = positions.get(values.as_slice()) {
                    rows[*position] = integer(value(&batch, values.len(), row)?)?.unwrap_or(0);
                }
            }
        }
        Ok(rows)
    }

    /// What goes into the parameters of the table or, as a partitioned one keeps its counts there, of its partitions.
    async fn parameters(
        &self,
        session: &Session,
        snapshot: &Snapshot,
        rows: Option<&[i64]>,
        columns: &[Column],
    ) -> Result<(Parameters, Vec<(Vec<String>, Parameters)>)> {
        let table = &snapshot.table.table;
        if table.partition_keys.is_empty() {
            let measured = measured(session, table.storage.location.as_deref()).await?;
            return Ok((counts(rows.and_then(<[i64]>::first).copied(), measured, columns), Vec::new()));
        }
        // Statistics of columns are kept of the partitions that were named, or of the whole table.
        let marked = if self.spec.is_some() { columns } else { &[] };
        let mut of_partitions = Vec::with_capacity(snapshot.partitions.len());
        for (position, partition) in snapshot.partitions.iter().enumerate() {
            let measured = measured(session, partition.storage.location.as_deref()).await?;
            of_partitions.push((partition.values.clone(), counts(rows.map(|rows| rows[position]), measured, marked)));
        }
        Ok((Parameters::new(), of_partitions))
    }

    /// Statistics of columns: of the whole table, or of each partition that was named.
    async fn statistics(
        &self,
        session: &Session,
        snapshot: &Snapshot,
        columns: &[Column],
    ) -> Result<Vec<(Option<Vec<String>>, Vec<ColumnStatistics>)>> {
        if columns.is_empty() {
            return Ok(Vec::new());
        }
        let table = &snapshot.table.table;
        let frame = session.context.table(self.name.reference()).await.map_err(from_datafusion)?;
        if self.spec.is_none() {
            return Ok(vec![(None, of_columns(frame, table, columns).await?)]);
        }
        let mut statistics = Vec::with_capacity(snapshot.partitions.len());
        for partition in &snapshot.partitions {
            let frame = frame.clone().filter(is_in(table, partition, |_| true)?).map_err(from_datafusion)?;
            statistics.push((Some(partition.values.clone()), of_columns(frame, table, columns).await?));
        }
        Ok(statistics)
    }
}

async fn measured(session: &Session, location: Option<&str>) -> Result<(i64, i64)> {
    match location {
        Some(location) => measure(&session.engine.stores.place(location)?).await,
        None => Ok((0, 0)),
    }
}

/// Hive's parameters for counts, with its mark of what they and the statistics of columns are worth.
fn counts(rows: Option<i64>, (files, bytes): (i64, i64), columns: &[Column]) -> Parameters {
    let mut parameters =
        Parameters::from([("numFiles".to_owned(), files.to_string()), ("totalSize".to_owned(), bytes.to_string())]);
    let Some(rows) = rows else { return parameters };
    parameters.insert("numRows".into(), rows.to_string());
    let mut mark = serde_json::json!({ "BASIC_STATS": "true" });
    if !columns.is_empty() {
        mark["COLUMN_STATS"] = columns.iter().map(|column| (column.name.clone(), "true")).collect();
    }
    parameters.insert("COLUMN_STATS_ACCURATE".into(), mark.to_string());
    parameters
}

/// The condition that a row has the values of a partition in those keys that are wanted.
fn is_in(table: &Table, partition: &Partition, is_wanted: impl Fn(&str) -> bool) -> Result<Expr> {
    let (_, keys) = table_fields(table)?;
    let mut condition = lit(true);
    for (key, text) in keys.iter().zip(&partition.values).filter(|(key, _)| is_wanted(key.name())) {
        let value = partition_scalar(text, key.data_type())?;
        let same = match value.is_null() {
            true => named(key.name()).is_null(),
            false => named(key.name()).eq(lit(value)),
        };
        condition = condition.and(same);
    }
    Ok(condition)
}

/// A column by its exact name, whatever is in it.
fn named(name: &str) -> Expr {
    Expr::Column(ColumnName::from_name(name))
}

/// One number that is kept of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Measure {
    NonNulls,
    Distincts,
    Low,
    High,
    AvgLength,
    MaxLength,
    Trues,
}

/// The numbers that are kept of a column of this type, and how they are found.
fn measures(name: &str, data_type: &DataType) -> Vec<(Measure, Expr)> {
    let column = || named(name);
    let mut measures = vec![(Measure::NonNulls, count(column()))];
    let range = || [(Measure::Low, min(column())), (Measure::High, max(column()))];
    match data_type {
        DataType::Boolean => {
            let trues = when(column(), lit(1_i64)).end();
            measures.extend(trues.map(|trues| (Measure::Trues, count(trues))));
        }
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => {
            let length = || cast(octet_length(column()), DataType::Int64);
            measures.extend([
                (Measure::Distincts, approx_distinct(column())),
                (Measure::AvgLength, avg(length())),
                (Measure::MaxLength, max(length())),
            ]);
        }
        DataType::Date32 | DataType::Timestamp(..) => {
            measures.push((Measure::Distincts, approx_distinct(column())));
            measures.extend(range());
        }
        number if number.is_integer() => {
            measures.push((Measure::Distincts, approx_distinct(column())));
            measures.extend(range());
        }
        number if number.is_numeric() => {
            // The sketch takes no fractions, but their texts are as distinct as they are.
            measures.push((Measure::Distincts, approx_distinct(cast(column(), DataType::Utf8))));
            measures.extend(range());
        }
        _ => {}
    }
    measures
}

async fn of_columns(frame: DataFrame, table: &Table, columns: &[Column]) -> Result<Vec<ColumnStatistics>> {
    let (fields, _) = table_fields(table)?;
    let mut found = vec![count_all().alias("rows")];
    let mut plan = Vec::with_capacity(columns.len());
    for column in columns {
        let field = fields.field_with_name(&column.name).map_err(|error| {
            Error::internal(format!("column '{}' of the catalog is not in the table's schema: {error}", column.name))
        })?;
        let mut kept = Vec::new();
        for (measure, expression) in measures(&column.name, field.data_type()) {
            kept.push((measure, found.len()));
            found.push(expression.alias(format!("m{}", found.len())));
        }
        plan.push((column, kept));
    }
    let batches =
        frame.aggregate(Vec::new(), found).map_err(from_datafusion)?.collect().await.map_err(from_datafusion)?;
    let Some(batch) = batches.iter().find(|batch| batch.num_rows() > 0) else {
        return Err(Error::internal("an aggregate without groups gave no row"));
    };
    let rows = integer(value(batch, 0, 0)?)?.unwrap_or(0);
    plan.into_iter().map(|(column, kept)| statistics_of(column, &kept, batch, rows)).collect()
}

fn statistics_of(
    column: &Column,
    kept: &[(Measure, usize)],
    batch: &RecordBatch,
    rows: i64,
) -> Result<ColumnStatistics> {
    let find = |wanted: Measure| match kept.iter().find(|(measure, _)| *measure == wanted) {
        Some((_, position)) => value(batch, *position, 0).map(Some),
        None => Ok(None),
    };
    let number = |wanted: Measure| find(wanted)?.map_or(Ok(None), integer);
    let non_nulls = number(Measure::NonNulls)?.unwrap_or(0);
    let avg_length = match find(Measure::AvgLength)? {
        Some(ScalarValue::Float64(length)) => length,
        _ => None,
    };
    let trues = number(Measure::Trues)?;
    Ok(ColumnStatistics {
        column: column.name.clone(),
        type_name: column.type_name.clone(),
        num_nulls: rows - non_nulls,
        num_distincts: number(Measure::Distincts)?,
        range: match (find(Measure::Low)?, find(Measure::High)?) {
            (Some(low), Some(high)) => range(&low, &high)?,
            _ => Range::None,
        },
        avg_length,
        max_length: number(Measure::MaxLength)?,
        num_trues: trues,
        num_falses: trues.map(|trues| non_nulls - trues),
        last_analyzed_s: 0,
    })
}

fn value(batch: &RecordBatch, column: usize, row: usize) -> Result<ScalarValue> {
    ScalarValue::try_from_array(batch.column(column), row).map_err(from_datafusion)
}

fn integer(value: ScalarValue) -> Result<Option<i64>> {
    match value.cast_to(&DataType::Int64).map_err(from_datafusion)? {
        ScalarValue::Int64(number) => Ok(number),
        other => Err(Error::internal(format!("{other} was to be an integer"))),
    }
}

/// The range in the shape that the metastore keeps for the type.
fn range(low: &ScalarValue, high: &ScalarValue) -> Result<Range> {
    if low.is_null() || high.is_null() {
        return Ok(Range::None);
    }
    let to = |value: &ScalarValue, data_type: &DataType| value.cast_to(data_type).map_err(from_datafusion);
    match low.data_type() {
        DataType::Date32 => match (low, high) {
            (ScalarValue::Date32(Some(low)), ScalarValue::Date32(Some(high))) => {
                Ok(Range::Long { low: i64::from(*low), high: i64::from(*high) })
            }
            _ => Ok(Range::None),
        },
        DataType::Timestamp(_, zone) => {
            let seconds = DataType::Timestamp(TimeUnit::Second, zone);
            match (to(low, &seconds)?, to(high, &seconds)?) {
                (ScalarValue::TimestampSecond(Some(low), _), ScalarValue::TimestampSecond(Some(high), _)) => {
                    Ok(Range::Long { low, high })
                }
                _ => Ok(Range::None),
            }
        }
        number if number.is_integer() => match (integer(low.clone())?, integer(high.clone())?) {
            (Some(low), Some(high)) => Ok(Range::Long { low, high }),
            _ => Ok(Range::None),
        },
        number if number.is_floating() => match (to(low, &DataType::Float64)?, to(high, &DataType::Float64)?) {
            (ScalarValue::Float64(Some(low)), ScalarValue::Float64(Some(high))) => Ok(Range::Double { low, high }),
            _ => Ok(Range::None),
        },
        number if number.is_numeric() => match (to(low, &DataType::Utf8)?, to(high, &DataType::Utf8)?) {
            (ScalarValue::Utf8(Some(low)), ScalarValue::Utf8(Some(high))) => Ok(Range::Decimal { low, high }),
            _ => Ok(Range::None),
        },
        _ => Ok(Range::None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_have_the_metastores_shapes() {
        let date = |days| ScalarValue::Date32(Some(days));
        assert_eq!(range(&date(-1), &date(9)).expect("dates"), Range::Long { low: -1, high: 9 });
        let time = |ms| ScalarValue::TimestampMillisecond(Some(ms), None);
        assert_eq!(range(&time(1_000), &time(2_500)).expect("times"), Range::Long { low: 1, high: 2 });
        let decimal = |value| ScalarValue::Decimal128(Some(value), 10, 2);
        let expected = Range::Decimal { low: "2.56".into(), high: "10.00".into() };
        assert_eq!(range(&decimal(256), &decimal(1000)).expect("decimals"), expected);
        let float = |value| ScalarValue::Float32(Some(value));
        assert_eq!(range(&float(0.5), &float(1.5)).expect("floats"), Range::Double { low: 0.5, high: 1.5 });
        assert_eq!(range(&ScalarValue::Int32(None), &ScalarValue::Int32(None)).expect("no rows"), Range::None);
    }
}
