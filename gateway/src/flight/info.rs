//! What `GetSqlInfo` and `GetXdbcTypeInfo` answer: what the server and its SQL can do, for drivers and tools.
//!
//! Drivers ask for everything at once and some fail where an entry is missing, so every entry of the specification
//! that the server can answer is there. The variant of each value is the one that the JDBC driver reads: flags are
//! Boolean, choices and sets of choices are Int32 (bit n for choice n), lengths and counts are Int64 with 0 for "no
//! known limit".

use std::collections::{BTreeMap, HashSet};

use arrow_flight::error::FlightError;
use arrow_flight::sql::metadata::{
    SqlInfoData, SqlInfoDataBuilder, XdbcTypeInfo, XdbcTypeInfoData, XdbcTypeInfoDataBuilder,
};
use arrow_flight::sql::{
    Nullable, Searchable, SqlInfo, SqlNullOrdering, SqlOuterJoinsSupportLevel, SqlSupportedCaseSensitivity,
    SqlSupportedGroupBy, SqlSupportedResultSetConcurrency, SqlSupportedResultSetType, SqlSupportedSubqueries,
    SqlSupportedTransaction, SqlSupportedUnions, SqlSupportsConvert, SqlTransactionIsolationLevel, SupportedSqlGrammar,
    XdbcDataType, XdbcDatetimeSubcode,
};
use tereza_runtime::{Error, Result};

use crate::Settings;

/// Which of the engine's functions are named under which heading; what the engine does not have is left out.
const NUMERIC_FUNCTIONS: [&str; 26] = [
    "abs", "acos", "asin", "atan", "atan2", "ceil", "cos", "cot", "degrees", "exp", "floor", "ln", "log", "log10",
    "log2", "mod", "pi", "power", "radians", "random", "round", "sign", "sin", "sqrt", "tan", "trunc",
];
const STRING_FUNCTIONS: [&str; 26] = [
    "ascii",
    "bit_length",
    "btrim",
    "char_length",
    "chr",
    "concat",
    "concat_ws",
    "initcap",
    "left",
    "length",
    "lower",
    "lpad",
    "ltrim",
    "octet_length",
    "position",
    "repeat",
    "replace",
    "reverse",
    "right",
    "rpad",
    "rtrim",
    "split_part",
    "strpos",
    "substr",
    "substring",
    "upper",
];
const DATETIME_FUNCTIONS: [&str; 12] = [
    "current_date",
    "current_time",
    "current_timestamp",
    "date_bin",
    "date_part",
    "date_trunc",
    "extract",
    "from_unixtime",
    "make_date",
    "now",
    "to_char",
    "to_timestamp",
];
const SYSTEM_FUNCTIONS: [&str; 5] = ["coalesce", "nullif", "nvl", "uuid", "version"];

/// The answer to `GetSqlInfo`; `words` are the engine's keywords and function names.
pub(crate) fn sql_info(words: Vec<String>, settings: &Settings) -> Result<SqlInfoData> {
    let known: HashSet<String> = words.iter().map(|word| word.to_lowercase()).collect();
    let functions = |names: &[&str]| -> Vec<String> {
        names.iter().filter(|name| known.contains(**name)).map(|name| (*name).to_owned()).collect()
    };
    let mut info = SqlInfoDataBuilder::new();
    info.append(SqlInfo::FlightSqlServerName, "Tereza");
    info.append(SqlInfo::FlightSqlServerVersion, env!("CARGO_PKG_VERSION"));
    // The version of the columnar format.
    info.append(SqlInfo::FlightSqlServerArrowVersion, "1.5");
    info.append(SqlInfo::FlightSqlServerReadOnly, false);
    info.append(SqlInfo::FlightSqlServerSql, true);
    info.append(SqlInfo::FlightSqlServerSubstrait, false);
    info.append(SqlInfo::FlightSqlServerTransaction, SqlSupportedTransaction::None as i32);
    info.append(SqlInfo::FlightSqlServerCancel, true);
    info.append(SqlInfo::FlightSqlServerBulkIngestion, true);
    info.append(SqlInfo::FlightSqlServerIngestTransactionsSupported, false);
    // A prepared statement ends with its session.
    info.append(SqlInfo::FlightSqlServerStatementTimeout, i32::try_from(settings.token_ttl_ms).unwrap_or(i32::MAX));
    info.append(SqlInfo::FlightSqlServerTransactionTimeout, 0i32);
    info.append(SqlInfo::SqlIdentifierQuoteChar, "\"");
    info.append(SqlInfo::SqlSearchStringEscape, "\\");
    info.append(SqlInfo::SqlExtraNameCharacters, "");
    info.append(SqlInfo::SqlSchemaTerm, "schema");
    info.append(SqlInfo::SqlProcedureTerm, "procedure");
    info.append(SqlInfo::SqlCatalogTerm, "catalog");
    info.append(SqlInfo::SqlNumericFunctions, functions(&NUMERIC_FUNCTIONS));
    info.append(SqlInfo::SqlStringFunctions, functions(&STRING_FUNCTIONS));
    info.append(SqlInfo::SqlDatetimeFunctions, functions(&DATETIME_FUNCTIONS));
    info.append(SqlInfo::SqlSystemFunctions, functions(&SYSTEM_FUNCTIONS));
    info.append(SqlInfo::SqlKeywords, words);
    info.append(SqlInfo::SqlIdentifierCase, SqlSupportedCaseSensitivity::SqlCaseSensitivityLowercase as i64);
    info.append(SqlInfo::SqlQuotedIdentifierCase, SqlSupportedCaseSensitivity::SqlCaseSensitivityUnknown as i64);
    info.append(SqlInfo::SqlNullOrdering, SqlNullOrdering::SqlNullsSortedHigh as i64);
    info.append(SqlInfo::SqlSupportsConvert, conversions());
    append_flags(&mut info);
    append_choices(&mut info);
    append_limits(&mut info, settings);
    info.build().map_err(failed)
}

fn append_flags(info: &mut SqlInfoDataBuilder) {
    let yes = [
        SqlInfo::SqlDdlSchema,
        SqlInfo::SqlDdlTable,
        SqlInfo::SqlAllTablesAreSelectable,
        SqlInfo::SqlSupportsColumnAliasing,
        SqlInfo::SqlNullPlusNullIsNull,
        SqlInfo::SqlSupportsTableCorrelationNames,
        SqlInfo::SqlSupportsExpressionsInOrderBy,
        SqlInfo::SqlSupportsOrderByUnrelated,
        SqlInfo::SqlSupportsLikeEscapeClause,
        SqlInfo::SqlSupportsNonNullableColumns,
        SqlInfo::SqlCatalogAtStart,
        SqlInfo::SqlCorrelatedSubqueriesSupported,
        SqlInfo::SqlBatchUpdatesSupported,
    ];
    let no = [
        SqlInfo::SqlDdlCatalog,
        SqlInfo::SqlSupportsDifferentTableCorrelationNames,
        SqlInfo::SqlSupportsIntegrityEnhancementFacility,
        SqlInfo::SqlSelectForUpdateSupported,
        SqlInfo::SqlStoredProceduresSupported,
        SqlInfo::SqlMaxRowSizeIncludesBlobs,
        SqlInfo::SqlTransactionsSupported,
        SqlInfo::SqlDataDefinitionCausesTransactionCommit,
        SqlInfo::SqlDataDefinitionsInTransactionsIgnored,
        SqlInfo::SqlSavepointsSupported,
        SqlInfo::SqlNamedParametersSupported,
        SqlInfo::SqlLocatorsUpdateCopy,
        SqlInfo::SqlStoredFunctionsUsingCallSyntaxSupported,
    ];
    for key in yes {
        info.append(key, true);
    }
    for key in no {
        info.append(key, false);
    }
}

fn append_choices(info: &mut SqlInfoDataBuilder) {
    let group_by =
        [SqlSupportedGroupBy::SqlGroupByUnrelated as i32, SqlSupportedGroupBy::SqlGroupByBeyondSelect as i32];
    let grammar = [SupportedSqlGrammar::SqlMinimumGrammar as i32, SupportedSqlGrammar::SqlCoreGrammar as i32];
    let outer_joins =
        [SqlOuterJoinsSupportLevel::SqlLimitedOuterJoins as i32, SqlOuterJoinsSupportLevel::SqlFullOuterJoins as i32];
    let subqueries = [
        SqlSupportedSubqueries::SqlSubqueriesInComparisons as i32,
        SqlSupportedSubqueries::SqlSubqueriesInExists as i32,
        SqlSupportedSubqueries::SqlSubqueriesInIns as i32,
    ];
    let unions = [SqlSupportedUnions::SqlUnion as i32, SqlSupportedUnions::SqlUnionAll as i32];
    let forward_only = [SqlSupportedResultSetType::SqlResultSetTypeForwardOnly as i32];
    let read_only = [SqlSupportedResultSetConcurrency::SqlResultSetConcurrencyReadOnly as i32];
    let no_transaction = [SqlTransactionIsolationLevel::SqlTransactionNone as i32];
    // `SupportedAnsi92SqlGrammarLevel::Ansi92EntrySql`, which arrow-flight does not export.
    let ansi92 = [0];
    for (key, choices) in [
        (SqlInfo::SqlSupportedGroupBy, &group_by[..]),
        (SqlInfo::SqlSupportedGrammar, &grammar),
        (SqlInfo::SqlAnsi92SupportedLevel, &ansi92),
        (SqlInfo::SqlOuterJoinsSupportLevel, &outer_joins),
        (SqlInfo::SqlSchemasSupportedActions, &[]),
        (SqlInfo::SqlCatalogsSupportedActions, &[]),
        (SqlInfo::SqlSupportedPositionedCommands, &[]),
        (SqlInfo::SqlSupportedSubqueries, &subqueries),
        (SqlInfo::SqlSupportedUnions, &unions),
        (SqlInfo::SqlSupportedTransactionsIsolationLevels, &no_transaction),
        (SqlInfo::SqlSupportedResultSetTypes, &forward_only),
        (SqlInfo::SqlSupportedConcurrenciesForResultSetUnspecified, &[]),
        (SqlInfo::SqlSupportedConcurrenciesForResultSetForwardOnly, &read_only),
        (SqlInfo::SqlSupportedConcurrenciesForResultSetScrollSensitive, &[]),
        (SqlInfo::SqlSupportedConcurrenciesForResultSetScrollInsensitive, &[]),
    ] {
        info.append(key, choices.iter().fold(0i32, |mask, choice| mask | 1 << choice));
    }
    info.append(SqlInfo::SqlDefaultTransactionIsolation, i64::from(no_transaction[0]));
}

fn append_limits(info: &mut SqlInfoDataBuilder, settings: &Settings) {
    for key in [
        SqlInfo::SqlMaxBinaryLiteralLength,
        SqlInfo::SqlMaxCharLiteralLength,
        SqlInfo::SqlMaxColumnNameLength,
        SqlInfo::SqlMaxColumnsInGroupBy,
        SqlInfo::SqlMaxColumnsInIndex,
        SqlInfo::SqlMaxColumnsInOrderBy,
        SqlInfo::SqlMaxColumnsInSelect,
        SqlInfo::SqlMaxColumnsInTable,
        SqlInfo::SqlMaxCursorNameLength,
        SqlInfo::SqlMaxIndexLength,
        SqlInfo::SqlDbSchemaNameLength,
        SqlInfo::SqlMaxProcedureNameLength,
        SqlInfo::SqlMaxCatalogNameLength,
        SqlInfo::SqlMaxRowSize,
        SqlInfo::SqlMaxTableNameLength,
        SqlInfo::SqlMaxTablesInSelect,
        SqlInfo::SqlMaxUsernameLength,
    ] {
        info.append(key, 0i64);
    }
    let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
    info.append(SqlInfo::SqlMaxConnections, number(settings.connections_max));
    info.append(SqlInfo::SqlMaxStatements, number(settings.prepared_max));
    info.append(SqlInfo::SqlMaxStatementLength, number(settings.request_limit_bytes));
}

/// What `CAST` converts: everything to and from text, numbers and booleans among each other, dates and timestamps.
fn conversions() -> BTreeMap<i32, Vec<i32>> {
    let text = [SqlSupportsConvert::SqlConvertChar, SqlSupportsConvert::SqlConvertVarchar];
    let numbers = [
        SqlSupportsConvert::SqlConvertBit,
        SqlSupportsConvert::SqlConvertTinyint,
        SqlSupportsConvert::SqlConvertSmallint,
        SqlSupportsConvert::SqlConvertInteger,
        SqlSupportsConvert::SqlConvertBigint,
        SqlSupportsConvert::SqlConvertReal,
        SqlSupportsConvert::SqlConvertFloat,
        SqlSupportsConvert::SqlConvertDecimal,
        SqlSupportsConvert::SqlConvertNumeric,
    ];
    let times = [SqlSupportsConvert::SqlConvertDate, SqlSupportsConvert::SqlConvertTimestamp];
    let others = [SqlSupportsConvert::SqlConvertTime, SqlSupportsConvert::SqlConvertVarbinary];
    let to = |groups: &[&[SqlSupportsConvert]]| groups.concat().into_iter().map(|target| target as i32).collect();
    let mut conversions: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
    for source in text {
        conversions.insert(source as i32, to(&[&text, &numbers, &times, &others]));
    }
    for source in numbers {
        conversions.insert(source as i32, to(&[&text, &numbers]));
    }
    for source in times {
        conversions.insert(source as i32, to(&[&text, &times]));
    }
    for source in others {
        conversions.insert(source as i32, to(&[&text, &[source]]));
    }
    conversions
}

/// The answer to `GetXdbcTypeInfo`: the types that columns can be declared with.
pub(crate) fn types() -> Result<XdbcTypeInfoData> {
    let mut types = XdbcTypeInfoDataBuilder::new();
    for (name, data_type, digits) in [
        ("TINYINT", XdbcDataType::XdbcTinyint, 3),
        ("SMALLINT", XdbcDataType::XdbcSmallint, 5),
        ("INTEGER", XdbcDataType::XdbcInteger, 10),
        ("BIGINT", XdbcDataType::XdbcBigint, 19),
    ] {
        types.append(XdbcTypeInfo {
            minimum_scale: Some(0),
            maximum_scale: Some(0),
            ..number(name, data_type, digits, 10)
        });
    }
    for (name, data_type, digits) in [
        ("TINYINT UNSIGNED", XdbcDataType::XdbcTinyint, 3),
        ("SMALLINT UNSIGNED", XdbcDataType::XdbcSmallint, 5),
        ("INTEGER UNSIGNED", XdbcDataType::XdbcInteger, 10),
        ("BIGINT UNSIGNED", XdbcDataType::XdbcBigint, 20),
    ] {
        types.append(XdbcTypeInfo {
            unsigned_attribute: Some(true),
            minimum_scale: Some(0),
            maximum_scale: Some(0),
            ..number(name, data_type, digits, 10)
        });
    }
    types.append(number("REAL", XdbcDataType::XdbcReal, 24, 2));
    types.append(number("DOUBLE", XdbcDataType::XdbcDouble, 53, 2));
    types.append(XdbcTypeInfo {
        create_params: Some(vec!["precision".to_owned(), "scale".to_owned()]),
        fixed_prec_scale: false,
        minimum_scale: Some(0),
        maximum_scale: Some(38),
        ..number("DECIMAL", XdbcDataType::XdbcDecimal, 38, 10)
    });
    types.append(XdbcTypeInfo { column_size: Some(1), ..named("BOOLEAN", XdbcDataType::XdbcBit) });
    types.append(XdbcTypeInfo {
        column_size: Some(i32::MAX),
        literal_prefix: Some("'".to_owned()),
        literal_suffix: Some("'".to_owned()),
        case_sensitive: true,
        ..named("VARCHAR", XdbcDataType::XdbcVarchar)
    });
    types.append(XdbcTypeInfo {
        column_size: Some(i32::MAX),
        literal_prefix: Some("X'".to_owned()),
        literal_suffix: Some("'".to_owned()),
        ..named("VARBINARY", XdbcDataType::XdbcVarbinary)
    });
    types.append(time("DATE", XdbcDataType::XdbcDate, "DATE '", 10, None));
    types.append(time("TIME", XdbcDataType::XdbcTime, "TIME '", 18, Some(XdbcDatetimeSubcode::XdbcSubcodeTime)));
    let timestamp = Some(XdbcDatetimeSubcode::XdbcSubcodeTimestamp);
    types.append(time("TIMESTAMP", XdbcDataType::XdbcTimestamp, "TIMESTAMP '", 29, timestamp));
    let day_to_second = Some(XdbcDatetimeSubcode::XdbcSubcodeIntervalDayToSecond);
    types.append(time("INTERVAL", XdbcDataType::XdbcInterval, "INTERVAL '", 64, day_to_second));
    types.build().map_err(failed)
}

fn named(name: &str, data_type: XdbcDataType) -> XdbcTypeInfo {
    XdbcTypeInfo {
        type_name: name.to_owned(),
        local_type_name: Some(name.to_owned()),
        data_type,
        sql_data_type: data_type,
        nullable: Nullable::NullabilityNullable,
        searchable: Searchable::Full,
        auto_increment: Some(false),
        ..XdbcTypeInfo::default()
    }
}

fn number(name: &str, data_type: XdbcDataType, digits: i32, radix: i32) -> XdbcTypeInfo {
    XdbcTypeInfo {
        column_size: Some(digits),
        unsigned_attribute: Some(false),
        num_prec_radix: Some(radix),
        ..named(name, data_type)
    }
}

fn time(
    name: &str,
    data_type: XdbcDataType,
    prefix: &str,
    characters: i32,
    subcode: Option<XdbcDatetimeSubcode>,
) -> XdbcTypeInfo {
    XdbcTypeInfo {
        column_size: Some(characters),
        literal_prefix: Some(prefix.to_owned()),
        literal_suffix: Some("'".to_owned()),
        datetime_subcode: subcode,
        ..named(name, data_type)
    }
}

fn failed(error: FlightError) -> Error {
    Error::internal(format!("cannot describe the server: {error}"))
}
