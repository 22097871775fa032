//! CREATE TABLE in Flink's grammar.

use std::collections::{BTreeMap, HashSet};

use datafusion::sql::sqlparser::tokenizer::Token;
use tereza_runtime::{Error, Result};

use super::like::Like;
use super::reader::{FlinkQuery, Reader, at};
use super::table::{
    COLUMNS_MAX, ColumnKind, Distribution, DistributionKind, PrimaryKey, StreamColumn, StreamTable, Watermark,
};

/// A CREATE TABLE that was read.
#[derive(Debug, Clone)]
pub struct CreateTable {
    /// One to three parts.
    pub name: Vec<String>,
    pub temporary: bool,
    pub if_not_exists: bool,
    /// What the statement itself says. With [`Self::like`] or [`Self::query`] it is not whole.
    pub table: StreamTable,
    /// The table that it begins from: see [`StreamTable::like`].
    pub like: Option<Like>,
    /// `AS SELECT …`: more columns, and the first rows.
    pub query: Option<FlinkQuery>,
    /// Columns of the query in the order that was asked for: `CREATE TABLE t (b, a) AS SELECT a, b …`; empty without.
    pub query_columns: Vec<String>,
}

/// Reads the rest of a statement after `CREATE [TEMPORARY] TABLE`.
pub(super) fn create_table(reader: &mut Reader<'_>, temporary: bool) -> Result<CreateTable> {
    let if_not_exists = reader.take("IF NOT EXISTS");
    let name = reader.name(3)?;
    let mut body = Body::default();
    if reader.next().token == Token::LParen {
        reader.list(|reader| body.element(reader))?;
    }
    let Body { mut table, query_columns, .. } = body;
    table.comment = comment(reader)?;
    if reader.take("DISTRIBUTED") {
        table.distribution = Some(distribution(reader)?);
    }
    if reader.take("PARTITIONED BY") {
        table.partition_keys = reader.list(Reader::identifier)?;
    }
    if reader.take("WITH") {
        table.options = options(reader)?;
    }
    let like = if reader.take("LIKE") { Some(Like::parse(reader)?) } else { None };
    let query = if like.is_none() && reader.take("AS") { Some(reader.query()?) } else { None };
    if let Some(name) = query_columns.first().filter(|_| query.is_none() || !table.columns.is_empty()) {
        let error = Error::invalid_input(format!("column '{name}' has no type"));
        let error = error.with_hint("columns are without types if all are, and AS SELECT gives them");
        return Err(reader.refuse_name(error, name));
    }
    table.imply_not_null();
    if like.is_none() && query.is_none() {
        table.consistent().map_err(|wrong| reader.refuse_name(wrong.error, &wrong.name))?;
    }
    if reader.next().token != Token::EOF && reader.next().token != Token::SemiColon {
        let words: &[&str] = match (&like, &query) {
            (None, None) => {
                &["COMMENT", "DISTRIBUTED", "PARTITIONED", "WITH", "LIKE", "AS", "the end of the statement"]
            }
            _ => &["the end of the statement"],
        };
        return Err(reader.expected(words));
    }
    Ok(CreateTable { name, temporary, if_not_exists, table, like, query, query_columns })
}

/// `COMMENT 'text'`, if it is next.
pub(super) fn comment(reader: &mut Reader<'_>) -> Result<Option<String>> {
    if reader.take("COMMENT") { reader.text().map(Some) } else { Ok(None) }
}

/// `('key' = 'value', …)`, or nothing in the parentheses; of two values of one key the last one counts, as in Flink.
pub(super) fn options(reader: &mut Reader<'_>) -> Result<BTreeMap<String, String>> {
    if reader.next().token == Token::LParen && reader.parser.peek_nth_token_ref(1).token == Token::RParen {
        reader.expect_token(&Token::LParen)?;
        reader.expect_token(&Token::RParen)?;
        return Ok(BTreeMap::new());
    }
    let pairs = reader.list(|reader| {
        let key = reader.text()?;
        reader.expect_token(&Token::Eq)?;
        Ok((key, reader.text()?))
    })?;
    Ok(pairs.into_iter().collect())
}

/// `BY [HASH | RANGE] (…) [INTO n BUCKETS]` or `INTO n BUCKETS`.
fn distribution(reader: &mut Reader<'_>) -> Result<Distribution> {
    if reader.take("INTO") {
        let buckets = Some(buckets(reader)?);
        return Ok(Distribution { kind: DistributionKind::Unknown, keys: Vec::new(), buckets });
    }
    if !reader.take("BY") {
        return Err(reader.expected(&["BY", "INTO"]));
    }
    let kind = if reader.take("HASH") {
        DistributionKind::Hash
    } else if reader.take("RANGE") {
        DistributionKind::Range
    } else if reader.next().token == Token::LParen {
        DistributionKind::Unknown
    } else {
        return Err(reader.expected(&["HASH", "RANGE", "'('"]));
    };
    let keys = reader.list(Reader::identifier)?;
    let buckets = if reader.take("INTO") { Some(buckets(reader)?) } else { None };
    Ok(Distribution { kind, keys, buckets })
}

fn buckets(reader: &mut Reader<'_>) -> Result<u32> {
    let buckets = reader.count()?;
    reader.expect("BUCKETS")?;
    Ok(buckets)
}

/// What stands in the parentheses after the name.
#[derive(Default)]
struct Body {
    table: StreamTable,
    query_columns: Vec<String>,
    names: HashSet<String>,
}

impl Body {
    fn element(&mut self, reader: &mut Reader<'_>) -> Result<()> {
        if reader.at("WATERMARK FOR") {
            return self.watermark(reader);
        }
        if reader.at("CONSTRAINT") || reader.at("PRIMARY KEY") || reader.at("UNIQUE") {
            return self.constraint(reader, None);
        }
        self.column(reader)
    }

    fn watermark(&mut self, reader: &mut Reader<'_>) -> Result<()> {
        if self.table.watermark.is_some() {
            return Err(reader.refuse(Error::unsupported("a second WATERMARK of one table")));
        }
        reader.expect("WATERMARK FOR")?;
        let rowtime = reader.identifier()?;
        if reader.next().token == Token::Period {
            return Err(reader
                .refuse(Error::unsupported("a watermark for a field of a row"))
                .with_hint("name the field with a computed column"));
        }
        reader.expect("AS")?;
        let (_, expression) = reader.expression()?;
        self.table.watermark = Some(Watermark { rowtime, expression, data_type: None });
        Ok(())
    }

    /// `[CONSTRAINT name] PRIMARY KEY (…) NOT ENFORCED`; of a `column` without the list.
    fn constraint(&mut self, reader: &mut Reader<'_>, column: Option<&str>) -> Result<()> {
        let name = if reader.take("CONSTRAINT") { Some(reader.identifier()?) } else { None };
        if reader.at("UNIQUE") {
            return Err(reader.refuse(Error::unsupported("UNIQUE")));
        }
        if !reader.at("PRIMARY KEY") {
            return Err(reader.expected(&["PRIMARY KEY"]));
        }
        if self.table.primary_key.is_some() {
            return Err(reader.refuse(Error::invalid_input("a table has one primary key at most")));
        }
        reader.expect("PRIMARY KEY")?;
        let columns = match column {
            Some(column) => vec![column.to_owned()],
            None => reader.list(Reader::identifier)?,
        };
        if !reader.take("NOT ENFORCED") {
            if reader.at("ENFORCED") {
                return Err(reader.refuse(Error::unsupported("PRIMARY KEY ENFORCED")).with_hint("write NOT ENFORCED"));
            }
            return Err(reader.expected(&["NOT ENFORCED"]).with_hint("a stream's rows cannot be checked"));
        }
        let mut key = PrimaryKey::unnamed(columns);
        if let Some(name) = name {
            key.name = name;
        }
        self.table.primary_key = Some(key);
        Ok(())
    }

    fn column(&mut self, reader: &mut Reader<'_>) -> Result<()> {
        let token = reader.next().clone();
        let name = reader.identifier()?;
        if !self.names.insert(name.clone()) {
            return Err(at(Error::invalid_input(format!("column '{name}' is twice in the table")), &token));
        }
        if self.names.len() > COLUMNS_MAX {
            return Err(at(Error::invalid_input(format!("a table has at most {COLUMNS_MAX} columns")), &token));
        }
        if matches!(reader.next().token, Token::Comma | Token::RParen) {
            self.query_columns.push(name);
            return Ok(());
        }
        let kind = if reader.take("AS") {
            ColumnKind::Computed { expression: reader.expression()?.1, data_type: None }
        } else {
            let data_type = reader.data_type()?;
            if reader.take("METADATA") {
                let key = if reader.take("FROM") { Some(reader.text()?) } else { None };
                ColumnKind::Metadata { data_type, key, is_virtual: reader.take("VIRTUAL") }
            } else {
                if reader.at("CONSTRAINT") || reader.at("PRIMARY KEY") || reader.at("UNIQUE") {
                    self.constraint(reader, Some(&name))?;
                }
                ColumnKind::Physical { data_type }
            }
        };
        let comment = comment(reader)?;
        if !matches!(reader.next().token, Token::Comma | Token::RParen) {
            let words: &[&str] = match &kind {
                _ if comment.is_some() => &["','", "')'"],
                ColumnKind::Physical { .. } => &["NOT NULL", "METADATA", "PRIMARY KEY", "COMMENT", "','", "')'"],
                ColumnKind::Metadata { .. } => &["FROM", "VIRTUAL", "COMMENT", "','", "')'"],
                ColumnKind::Computed { .. } => &["COMMENT", "','", "')'"],
            };
            return Err(reader.expected(words));
        }
        self.table.columns.push(StreamColumn { name, kind, comment });
        Ok(())
    }
}

#[cfg(test)]
#[path = "create_tests.rs"]
pub(super) mod tests;
