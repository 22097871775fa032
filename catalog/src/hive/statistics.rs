//! Statistics of columns: what the interface says of them and the catalog keeps, and their methods.

use std::collections::{BTreeMap, HashSet};

use bytes::Bytes;
use tereza_runtime::ErrorKind;
use tereza_thrift::hive::{
    self, AggrStats, BinaryColumnStatsData, BooleanColumnStatsData, ColumnStatisticsData, ColumnStatisticsDesc,
    ColumnStatisticsObj, DateColumnStatsData, DecimalColumnStatsData, DeleteColumnStatisticsRequest,
    DoubleColumnStatsData, Exception, InvalidObjectException, LongColumnStatsData, NoSuchObjectException,
    PartitionsStatsRequest, SetPartitionsStatsRequest, StringColumnStatsData,
};

use super::names::{self, CATALOG, qualified};
use super::partitions::Asked;
use super::{Answer, Session};
use crate::model::{ColumnStatistics, Range};

/// Partitions whose statistics are read at once.
const PARTITIONS_AT_ONCE: usize = 1_000;
/// Digits of a decimal, before and behind its point.
const DECIMAL_DIGITS_MAX: usize = 38;
/// Bytes of an unscaled decimal that are read: those of 38 digits.
const DECIMAL_BYTES_MAX: usize = 16;

impl Session {
    pub(super) async fn table_statistics(
        &self,
        database: String,
        table: String,
        columns: &[String],
    ) -> Answer<Vec<ColumnStatisticsObj>> {
        let database = names::database(Some(database))?;
        let table = names::object(Some(table));
        let known = self.store().column_statistics(&database, &table, None).await;
        let known = known.map_err(|error| self.of_table(error, &database, &table))?;
        Ok(picked(known, columns))
    }

    pub(super) async fn one_table_statistics(
        &self,
        database: Option<String>,
        table: Option<String>,
        column: Option<String>,
    ) -> Answer<hive::ColumnStatistics> {
        let (database, table, column) = (names::database(database)?, names::object(table), names::object(column));
        let objects = self.table_statistics(database.clone(), table.clone(), std::slice::from_ref(&column)).await?;
        if objects.is_empty() {
            let message =
                format!("Statistics for dbName={database}, tableName={table}, columnName={column} doesn't exist.");
            return Err(NoSuchObjectException::new(message).into());
        }
        let desc = ColumnStatisticsDesc {
            is_tbl_level: true,
            db_name: database,
            table_name: table,
            cat_name: Some(CATALOG.to_owned()),
            ..ColumnStatisticsDesc::default()
        };
        Ok(hive::ColumnStatistics { stats_desc: desc, stats_obj: objects, ..hive::ColumnStatistics::default() })
    }

    /// By the names that the client asked with. A partition without any of the statistics is left out.
    pub(super) async fn partition_statistics(
        &self,
        request: PartitionsStatsRequest,
    ) -> Answer<BTreeMap<String, Vec<ColumnStatisticsObj>>> {
        names::check_catalog(request.cat_name.as_deref())?;
        let Asked { database, name: table, keys } = self.asked(Some(request.db_name), Some(request.tbl_name)).await?;
        // Several names that clients write may be one that is kept.
        let mut asked: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for name in request.part_names {
            if let Some(kept) = names::kept_partition_name(&name, &keys) {
                asked.entry(kept).or_default().push(name);
            }
        }
        let kept: Vec<String> = asked.keys().cloned().collect();
        let mut found = BTreeMap::new();
        for kept in kept.chunks(PARTITIONS_AT_ONCE) {
            let known = self.store().partition_statistics(&database, &table, kept).await;
            for (kept, known) in known.map_err(|error| self.of_table(error, &database, &table))? {
                let objects = picked(known, &request.col_names);
                if !objects.is_empty() {
                    let names = asked.remove(&kept).unwrap_or_default();
                    found.extend(names.into_iter().map(|name| (name, objects.clone())));
                }
            }
        }
        Ok(found)
    }

    /// The statistics of all these partitions together.
    pub(super) async fn aggregated_statistics(&self, request: PartitionsStatsRequest) -> Answer<AggrStats> {
        let columns = request.col_names.len();
        let by_partition = self.partition_statistics(request).await?;
        let parts_found = by_partition.values().filter(|objects| objects.len() == columns).count();
        let mut merged: BTreeMap<String, ColumnStatistics> = BTreeMap::new();
        for object in by_partition.into_values().flatten() {
            let Some(next) = from_object(object) else { continue };
            match merged.get_mut(&next.column) {
                Some(known) => merge(known, &next),
                None => {
                    merged.insert(next.column.clone(), next);
                }
            }
        }
        Ok(AggrStats {
            col_stats: merged.into_values().map(to_object).collect(),
            parts_found: i64::try_from(parts_found).unwrap_or(i64::MAX),
            ..AggrStats::default()
        })
    }

    /// Sets what a client found out about a table or a partition.
    pub(super) async fn set_statistics(&self, statistics: hive::ColumnStatistics) -> Answer<()> {
        let desc = statistics.stats_desc;
        names::check_catalog(desc.cat_name.as_deref())?;
        let (database, table) = (names::database(Some(desc.db_name))?, names::object(Some(desc.table_name)));
        let known = self.table(&database, &table).await?;
        let values = match desc.part_name.filter(|_| !desc.is_tbl_level) {
            None => None,
            Some(name) => Some(names::values_of(&name, &known.partition_keys).ok_or_else(|| {
                InvalidObjectException::new(format!("partition {name} of {} not found", qualified(&database, &table)))
            })?),
        };
        let mut columns = Vec::with_capacity(statistics.stats_obj.len());
        for object in statistics.stats_obj {
            let name = object.col_name.clone();
            let column = from_object(object)
                .ok_or_else(|| InvalidObjectException::new(format!("the statistics of column {name} say nothing, or have a decimal of more than {DECIMAL_DIGITS_MAX} digits")))?;
            columns.push(column);
        }
        Ok(self.store().set_column_statistics(&database, &table, values.as_deref(), &columns).await?)
    }

    /// Sets those of several tables or partitions, one after the other.
    pub(super) async fn set_all_statistics(&self, request: SetPartitionsStatsRequest) -> Answer<()> {
        for statistics in request.col_stats {
            self.set_statistics(statistics).await?;
        }
        Ok(())
    }

    pub(super) async fn delete_statistics(
        &self,
        database: Option<String>,
        table: Option<String>,
        partition: Option<Option<String>>,
        column: Option<String>,
    ) -> Answer<()> {
        let (database, table) = (names::database(database)?, names::object(table));
        let named = partition.clone().flatten();
        let values = match partition {
            None => None,
            Some(name) => {
                let keys = self.table(&database, &table).await?.partition_keys;
                let name = name.unwrap_or_default();
                Some(names::values_of(&name, &keys).ok_or_else(|| {
                    NoSuchObjectException::new(format!(
                        "partition {name} of {} not found",
                        qualified(&database, &table)
                    ))
                })?)
            }
        };
        let column = column.filter(|column| !column.is_empty());
        let deleted = self.store().delete_column_statistics(&database, &table, values.as_deref(), column.as_deref());
        let deleted = deleted.await.map_err(|error| match &named {
            Some(name) if error.kind() == ErrorKind::NotFound => {
                let message = format!("Partition {name} for which stats deletion is requested doesn't exist");
                NoSuchObjectException::new(message).into()
            }
            _ => self.of_table(error, &database, &table),
        })?;
        if deleted == 0
            && let Some(column) = column
        {
            let message = format!("Column stats doesn't exist for db={database} table={table} col={column}");
            return Err(NoSuchObjectException::new(message).into());
        }
        Ok(())
    }

    /// Deletes those of some columns, or all, of a table or of some partitions, or all.
    pub(super) async fn delete_all_statistics(&self, request: DeleteColumnStatisticsRequest) -> Answer<()> {
        names::check_catalog(request.cat_name.as_deref())?;
        let (database, table) = (Some(request.db_name), Some(request.tbl_name));
        let asked = self.asked(database.clone(), table.clone()).await?;
        let columns: Vec<Option<String>> = match request.col_names {
            Some(columns) if !columns.is_empty() => columns.into_iter().map(Some).collect(),
            _ => vec![None],
        };
        let partitions: Vec<Option<Option<String>>> = match request.part_names {
            _ if request.table_level.unwrap_or_default() => vec![None],
            Some(names) if !names.is_empty() => names.into_iter().map(|name| Some(Some(name))).collect(),
            _ => {
                let names = self.store().partition_names(&asked.database, &asked.name).await?;
                names.into_iter().map(|name| Some(Some(name))).collect()
            }
        };
        for partition in partitions {
            for column in &columns {
                let deleted =
                    self.delete_statistics(database.clone(), table.clone(), partition.clone(), column.clone());
                match deleted.await {
                    // What has none needs none deleted.
                    Ok(()) | Err(Exception::NoSuchObject(_)) => {}
                    Err(other) => return Err(other),
                }
            }
        }
        Ok(())
    }
}

fn picked(known: Vec<ColumnStatistics>, columns: &[String]) -> Vec<ColumnStatisticsObj> {
    let columns: HashSet<String> = columns.iter().map(|column| column.to_lowercase()).collect();
    known.into_iter().filter(|column| columns.contains(&column.column)).map(to_object).collect()
}

/// What a client finds out by adding what two partitions say. Distinct values may be the same ones, so there are at least
/// as many as in either.
fn merge(known: &mut ColumnStatistics, next: &ColumnStatistics) {
    fn greater<T: PartialOrd>(one: Option<T>, two: Option<T>) -> Option<T> {
        match (one, two) {
            (Some(one), Some(two)) => Some(if two > one { two } else { one }),
            (one, two) => one.or(two),
        }
    }
    let sum = |one: Option<i64>, two: Option<i64>| one.zip(two).map(|(one, two)| one.saturating_add(two));
    known.num_nulls = known.num_nulls.saturating_add(next.num_nulls);
    known.num_distincts = greater(known.num_distincts, next.num_distincts);
    known.avg_length = greater(known.avg_length, next.avg_length);
    known.max_length = greater(known.max_length, next.max_length);
    known.num_trues = sum(known.num_trues, next.num_trues);
    known.num_falses = sum(known.num_falses, next.num_falses);
    known.range = match (&known.range, &next.range) {
        (Range::Long { low, high }, Range::Long { low: l, high: h }) => {
            Range::Long { low: *low.min(l), high: *high.max(h) }
        }
        (Range::Double { low, high }, Range::Double { low: l, high: h }) => {
            Range::Double { low: low.min(*l), high: high.max(*h) }
        }
        (Range::Decimal { low, high }, Range::Decimal { low: l, high: h }) => {
            let family = super::value::Family::Number;
            let is_less = |one: &str, two: &str| family.look(one).compare(family.look(two)).is_lt();
            Range::Decimal {
                low: if is_less(l, low) { l.clone() } else { low.clone() },
                high: if is_less(high, h) { h.clone() } else { high.clone() },
            }
        }
        // A partition without rows has no range; neither has a column without one.
        (Range::None, other) | (other, Range::None) => other.clone(),
        _ => Range::None,
    };
}

pub(super) fn to_object(column: ColumnStatistics) -> ColumnStatisticsObj {
    let (num_nulls, num_dvs) = (column.num_nulls, column.num_distincts.unwrap_or_default());
    let long = match column.range {
        Range::Long { low, high } => Some((low, high)),
        _ => None,
    };
    let (max_col_len, avg_col_len) = (column.max_length.unwrap_or_default(), column.avg_length.unwrap_or_default());
    let type_name = column.type_name.to_ascii_lowercase();
    let stats_data = match type_name.split(['(', '<']).next().unwrap_or_default().trim() {
        "boolean" => ColumnStatisticsData::BooleanStats(BooleanColumnStatsData {
            num_trues: column.num_trues.unwrap_or_default(),
            num_falses: column.num_falses.unwrap_or_default(),
            num_nulls,
            bit_vectors: None,
        }),
        "binary" => ColumnStatisticsData::BinaryStats(BinaryColumnStatsData {
            max_col_len,
            avg_col_len,
            num_nulls,
            bit_vectors: None,
        }),
        "float" | "double" => {
            let range = match column.range {
                Range::Double { low, high } => Some((low, high)),
                _ => None,
            };
            ColumnStatisticsData::DoubleStats(DoubleColumnStatsData {
                low_value: range.map(|(low, _)| low),
                high_value: range.map(|(_, high)| high),
                num_nulls,
                num_d_vs: num_dvs,
                ..DoubleColumnStatsData::default()
            })
        }
        "decimal" => {
            let range = match &column.range {
                Range::Decimal { low, high } => decimal_to(low).zip(decimal_to(high)),
                _ => None,
            };
            let (low_value, high_value) = range.unzip();
            ColumnStatisticsData::DecimalStats(DecimalColumnStatsData {
                low_value,
                high_value,
                num_nulls,
                num_d_vs: num_dvs,
                ..DecimalColumnStatsData::default()
            })
        }
        "date" => ColumnStatisticsData::DateStats(DateColumnStatsData {
            low_value: long.map(|(low, _)| hive::Date { days_since_epoch: low }),
            high_value: long.map(|(_, high)| hive::Date { days_since_epoch: high }),
            num_nulls,
            num_d_vs: num_dvs,
            ..DateColumnStatsData::default()
        }),
        "string" | "varchar" | "char" => ColumnStatisticsData::StringStats(StringColumnStatsData {
            max_col_len,
            avg_col_len,
            num_nulls,
            num_d_vs: num_dvs,
            bit_vectors: None,
        }),
        // Timestamps too, as seconds: clients of Hive 2 and 3 do not know those of their own.
        _ => ColumnStatisticsData::LongStats(LongColumnStatsData {
            low_value: long.map(|(low, _)| low),
            high_value: long.map(|(_, high)| high),
            num_nulls,
            num_d_vs: num_dvs,
            ..LongColumnStatsData::default()
        }),
    };
    ColumnStatisticsObj { col_name: column.column, col_type: column.type_name, stats_data }
}

/// Nothing if there is nothing in it that is known here, or a decimal that no column has.
pub(super) fn from_object(object: ColumnStatisticsObj) -> Option<ColumnStatistics> {
    let mut column = ColumnStatistics {
        column: object.col_name.to_lowercase(),
        type_name: object.col_type,
        num_nulls: 0,
        num_distincts: None,
        range: Range::None,
        avg_length: None,
        max_length: None,
        num_trues: None,
        num_falses: None,
        last_analyzed_s: 0,
    };
    let long = |low: Option<i64>, high: Option<i64>| match (low, high) {
        (Some(low), Some(high)) => Range::Long { low, high },
        _ => Range::None,
    };
    match object.stats_data {
        ColumnStatisticsData::Unset => return None,
        ColumnStatisticsData::BooleanStats(data) => {
            column.num_nulls = data.num_nulls;
            column.num_trues = Some(data.num_trues);
            column.num_falses = Some(data.num_falses);
        }
        ColumnStatisticsData::LongStats(data) => {
            (column.num_nulls, column.num_distincts) = (data.num_nulls, Some(data.num_d_vs));
            column.range = long(data.low_value, data.high_value);
        }
        ColumnStatisticsData::DoubleStats(data) => {
            (column.num_nulls, column.num_distincts) = (data.num_nulls, Some(data.num_d_vs));
            if let (Some(low), Some(high)) = (data.low_value, data.high_value) {
                column.range = Range::Double { low, high };
            }
        }
        ColumnStatisticsData::StringStats(data) => {
            (column.num_nulls, column.num_distincts) = (data.num_nulls, Some(data.num_d_vs));
            (column.max_length, column.avg_length) = (Some(data.max_col_len), Some(data.avg_col_len));
        }
        ColumnStatisticsData::BinaryStats(data) => {
            column.num_nulls = data.num_nulls;
            (column.max_length, column.avg_length) = (Some(data.max_col_len), Some(data.avg_col_len));
        }
        ColumnStatisticsData::DecimalStats(data) => {
            (column.num_nulls, column.num_distincts) = (data.num_nulls, Some(data.num_d_vs));
            if let (Some(low), Some(high)) = (data.low_value, data.high_value) {
                column.range = Range::Decimal { low: decimal_from(&low)?, high: decimal_from(&high)? };
            }
        }
        ColumnStatisticsData::DateStats(data) => {
            (column.num_nulls, column.num_distincts) = (data.num_nulls, Some(data.num_d_vs));
            let days = |date: Option<hive::Date>| date.map(|date| date.days_since_epoch);
            column.range = long(days(data.low_value), days(data.high_value));
        }
        ColumnStatisticsData::TimestampStats(data) => {
            (column.num_nulls, column.num_distincts) = (data.num_nulls, Some(data.num_d_vs));
            let seconds = |moment: Option<hive::Timestamp>| moment.map(|moment| moment.seconds_since_epoch);
            column.range = long(seconds(data.low_value), seconds(data.high_value));
        }
    }
    Some(column)
}

/// `2.56` as an unscaled number in as few bytes as it needs, the highest first, and a scale.
fn decimal_to(text: &str) -> Option<hive::Decimal> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let unscaled: i128 = format!("{whole}{fraction}").parse().ok()?;
    let bytes = unscaled.to_be_bytes();
    // A leading byte says nothing if it only repeats the sign of the next.
    let is_needless = |at: usize| {
        let sign = if bytes[at + 1] & 0x80 == 0 { 0x00 } else { 0xff };
        bytes[at] == sign
    };
    let first = (0..bytes.len() - 1).find(|at| !is_needless(*at)).unwrap_or(bytes.len() - 1);
    let scale = i16::try_from(fraction.len()).ok()?;
    Some(hive::Decimal { unscaled: Bytes::copy_from_slice(&bytes[first..]), scale })
}

fn decimal_from(decimal: &hive::Decimal) -> Option<String> {
    let bytes = &decimal.unscaled;
    if bytes.is_empty() || bytes.len() > DECIMAL_BYTES_MAX {
        return None;
    }
    let sign = if bytes[0] & 0x80 == 0 { 0 } else { -1 };
    let unscaled = bytes.iter().fold(sign, |value: i128, byte| (value << 8) | i128::from(*byte));
    let scale = usize::try_from(decimal.scale).ok().filter(|scale| *scale <= DECIMAL_DIGITS_MAX)?;
    let digits = format!("{:0>width$}", unscaled.unsigned_abs(), width = scale + 1);
    let (whole, fraction) = digits.split_at(digits.len() - scale);
    let minus = if unscaled < 0 { "-" } else { "" };
    Some(if scale == 0 { format!("{minus}{whole}") } else { format!("{minus}{whole}.{fraction}") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_unscaled_bytes() {
        for (text, bytes, scale) in [
            ("2.56", &[0x01, 0x00][..], 2),
            ("-2.56", &[0xff, 0x00], 2),
            ("0.05", &[0x05], 2),
            ("1.27", &[0x7f], 2),
            ("1.28", &[0x00, 0x80], 2),
            ("-1.28", &[0x80], 2),
            ("0", &[0x00], 0),
            ("-1", &[0xff], 0),
        ] {
            let decimal = decimal_to(text).unwrap();
            assert_eq!((&decimal.unscaled[..], decimal.scale), (bytes, scale), "{text}");
            assert_eq!(decimal_from(&decimal).unwrap(), text);
        }
        assert_eq!(decimal_to("x"), None);
        assert_eq!(decimal_from(&hive::Decimal { unscaled: Bytes::from(vec![1; 17]), scale: 0 }), None);
        assert_eq!(decimal_from(&hive::Decimal { unscaled: Bytes::from(vec![1]), scale: -1 }), None);
        assert_eq!(decimal_from(&hive::Decimal { unscaled: Bytes::from(vec![1]), scale: i16::MAX }), None);
    }

    #[test]
    fn each_type_has_its_statistics() {
        let empty = from_object(ColumnStatisticsObj {
            col_name: "C".into(),
            col_type: "bigint".into(),
            stats_data: ColumnStatisticsData::LongStats(LongColumnStatsData::default()),
        })
        .unwrap();
        assert_eq!(empty.column, "c");
        let lengths = |type_name: &str| ColumnStatistics {
            type_name: type_name.into(),
            max_length: Some(9),
            avg_length: Some(2.5),
            ..empty.clone()
        };
        let ranged =
            |type_name: &str, range: Range| ColumnStatistics { type_name: type_name.into(), range, ..empty.clone() };
        let booleans = ColumnStatistics {
            type_name: "boolean".into(),
            num_trues: Some(1),
            num_falses: Some(2),
            num_distincts: None,
            ..empty.clone()
        };
        let decimal = Range::Decimal { low: "-1.50".into(), high: "99999999999999999999.99".into() };
        for given in [
            booleans,
            lengths("string"),
            lengths("varchar(10)"),
            ColumnStatistics { num_distincts: None, ..lengths("binary") },
            ranged("int", Range::Long { low: -1, high: 5 }),
            ranged("double", Range::Double { low: -1.5, high: 5.0 }),
            ranged("decimal(22,2)", decimal),
            ranged("date", Range::Long { low: 0, high: 19_000 }),
            ranged("timestamp", Range::Long { low: 0, high: 1_700_000_000 }),
            ranged("float", Range::None),
        ] {
            assert_eq!(from_object(to_object(given.clone())), Some(given));
        }
    }
}
