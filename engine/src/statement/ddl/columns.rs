//! Columns of CREATE TABLE and ALTER TABLE: names, types in the words of SQL, Hive, Spark or Presto, comments.

use datafusion::sql::sqlparser::tokenizer::Token;
use tereza_catalog::model::Column;
use tereza_runtime::{Error, Result};

use crate::statement::parse::Reader;
use crate::types::arrow_type;

/// Reads `name type [COMMENT 'text']`.
pub(super) fn column(reader: &mut Reader<'_>) -> Result<Column> {
    match column_or_name(reader)? {
        (name, Some(type_name), comment) => Ok(Column { name, type_name, comment }),
        (name, None, _) => Err(reader.expected(&format!("the type of column '{name}'"))),
    }
}

/// Reads `name [type [COMMENT 'text']]`.
pub(super) fn column_or_name(reader: &mut Reader<'_>) -> Result<(String, Option<String>, Option<String>)> {
    let name = reader.identifier()?.to_lowercase();
    if name.is_empty() {
        return Err(reader.refuse(Error::invalid_input("a column needs a name")));
    }
    if reader.at_token(&Token::Comma) || reader.at_token(&Token::RParen) {
        return Ok((name, None, None));
    }
    let type_name = data_type(reader)?;
    let mut comment = None;
    loop {
        if reader.take("COMMENT") {
            comment = Some(reader.text()?);
        } else if reader.take("NULL") {
            // What every column is.
        } else {
            break;
        }
    }
    let constraints = ["NOT NULL", "PRIMARY", "UNIQUE", "CHECK", "DEFAULT", "REFERENCES", "GENERATED", "CONSTRAINT"];
    if let Some(constraint) = constraints.iter().find(|words| reader.at(words)) {
        return Err(reader.refuse(Error::unsupported(format!("{constraint} on a column of files"))));
    }
    Ok((name, Some(type_name), comment))
}

/// Reads a type and returns it in Hive's words; `Unsupported` for a type that Hive lacks.
pub(in crate::statement) fn data_type(reader: &mut Reader<'_>) -> Result<String> {
    let mut text = String::new();
    if nested(reader, &mut text)? {
        return Err(reader.expected("a type without a second '>'"));
    }
    // Hive's word must mean something here, or the table could not be read.
    arrow_type(&text).map_err(|error| reader.refuse(error))?;
    Ok(text)
}

/// Appends one type to `out`. True if it also consumed the `>` of the type around it (`>>` is one token).
fn nested(reader: &mut Reader<'_>, out: &mut String) -> Result<bool> {
    let start = out.len();
    let Some(word) = reader.word() else { return Err(reader.expected("a type")) };
    let place = reader.refuse(Error::unsupported(format!("type {}", word.to_lowercase())));
    reader.parser.advance_token();
    let closed = match word.as_str() {
        "ARRAY" | "MAP" | "STRUCT" | "ROW" => compound(reader, &word, out)?,
        _ => {
            out.push_str(&simple(reader, &word, place)?);
            false
        }
    };
    // PostgreSQL's `int[]`.
    while reader.take_token(&Token::LBracket) {
        reader.expect_token(&Token::RBracket)?;
        out.insert_str(start, "array<");
        out.push('>');
    }
    Ok(closed)
}

/// Appends `array<…>`, `map<…>` or `struct<…>`; brackets may be angular (Hive) or round (Presto). Like [`nested`], true if
/// it also consumed the `>` of the type around it.
fn compound(reader: &mut Reader<'_>, word: &str, out: &mut String) -> Result<bool> {
    let (name, types) = match word {
        "ARRAY" => ("array", Some(1)),
        "MAP" => ("map", Some(2)),
        _ => ("struct", None),
    };
    let angular = reader.take_token(&Token::Lt);
    if !angular {
        reader.expect_token(&Token::LParen)?;
    }
    out.push_str(name);
    out.push('<');
    let mut count = 0;
    let closed = loop {
        if types.is_none() {
            out.push_str(&reader.identifier()?.to_lowercase());
            out.push(':');
            reader.take_token(&Token::Colon);
        }
        let closed = nested(reader, out)?;
        count += 1;
        if !closed && reader.take("COMMENT") {
            // Hive keeps no comment of a field inside a type.
            reader.text()?;
        }
        if closed || !reader.take_token(&Token::Comma) {
            break closed;
        }
        out.push(',');
    };
    out.push('>');
    if types.is_some_and(|types| types != count) {
        return Err(reader.refuse(Error::invalid_input(format!("type {name} does not take {count} types"))));
    }
    match (closed, angular) {
        (true, true) => Ok(false),
        (true, false) => Err(reader.expected("')'")),
        (false, false) => reader.expect_token(&Token::RParen).map(|()| false),
        (false, true) if reader.take_token(&Token::ShiftRight) => Ok(true),
        (false, true) => reader.expect_token(&Token::Gt).map(|()| false),
    }
}

/// A type without others in it, in Hive's words.
fn simple(reader: &mut Reader<'_>, word: &str, unsupported: Error) -> Result<String> {
    let plain = match word {
        "BOOLEAN" | "BOOL" => "boolean",
        "TINYINT" | "BYTE" | "INT1" => "tinyint",
        "SMALLINT" | "SHORT" | "INT2" => "smallint",
        "INT" | "INTEGER" | "INT4" => "int",
        "BIGINT" | "LONG" | "INT8" => "bigint",
        "FLOAT" | "REAL" | "FLOAT4" => "float",
        "FLOAT8" => "double",
        "DOUBLE" => {
            reader.take("PRECISION");
            "double"
        }
        "STRING" | "TEXT" => "string",
        "DATE" => "date",
        "BINARY" | "VARBINARY" | "BYTEA" | "BLOB" => {
            sizes(reader)?;
            "binary"
        }
        "TIMESTAMP" | "DATETIME" | "TIMESTAMPTZ" => {
            sizes(reader)?;
            let zoned = reader.take("WITH TIME ZONE") || reader.take("WITH LOCAL TIME ZONE") || word == "TIMESTAMPTZ";
            reader.take("WITHOUT TIME ZONE");
            if zoned { "timestamp with local time zone" } else { "timestamp" }
        }
        "DECIMAL" | "NUMERIC" | "DEC" => {
            return match sizes(reader)?.as_slice() {
                [] => Ok("decimal(10,0)".into()),
                [precision] => Ok(format!("decimal({precision},0)")),
                [precision, scale] => Ok(format!("decimal({precision},{scale})")),
                _ => Err(reader.expected("a precision and a scale")),
            };
        }
        "VARCHAR" | "CHAR" | "CHARACTER" => {
            let varying = word == "VARCHAR" || reader.take("VARYING");
            return match (varying, sizes(reader)?.as_slice()) {
                (true, []) => Ok("string".into()),
                (true, [length]) => Ok(format!("varchar({length})")),
                (false, []) => Ok("char(1)".into()),
                (false, [length]) => Ok(format!("char({length})")),
                _ => Err(reader.expected("a length")),
            };
        }
        _ => return Err(unsupported),
    };
    Ok(plain.into())
}

/// Numbers in parentheses, if there are any.
fn sizes(reader: &mut Reader<'_>) -> Result<Vec<u32>> {
    if !reader.at_token(&Token::LParen) {
        return Ok(Vec::new());
    }
    reader.list(|reader| match &reader.parser.peek_token_ref().token {
        Token::Number(number, _) => {
            let number = number.parse().map_err(|_| reader.expected("a small number"))?;
            reader.parser.advance_token();
            Ok(number)
        }
        _ => Err(reader.expected("a number")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statement::parse::{Text, tests::scope};

    /// Hive's words for a type, without asking whether Arrow knows them.
    fn hive(sql: &str) -> Result<String> {
        let text = Text::new(sql, scope())?;
        let rules = text.scope.rules();
        let mut reader = Reader::new(&text, rules.as_ref());
        let mut out = String::new();
        if nested(&mut reader, &mut out)? {
            return Err(reader.expected("less"));
        }
        reader.end()?;
        Ok(out)
    }

    #[test]
    fn types_of_all_systems_become_hives() {
        for (sql, expected) in [
            ("integer", "int"),
            ("double precision", "double"),
            ("varchar", "string"),
            ("varchar(10)", "varchar(10)"),
            ("character varying (5)", "varchar(5)"),
            ("numeric(12, 3)", "decimal(12,3)"),
            ("decimal", "decimal(10,0)"),
            ("timestamp(3) without time zone", "timestamp"),
            ("timestamp with time zone", "timestamp with local time zone"),
            ("int[]", "array<int>"),
            ("array<array<int>>", "array<array<int>>"),
            ("map<string,array<map<int,array<bigint>>>>", "map<string,array<map<int,array<bigint>>>>"),
            ("struct<a:int,b:array<string>>", "struct<a:int,b:array<string>>"),
            ("row(a int, b varchar)", "struct<a:int,b:string>"),
            ("map(varchar, array(double))", "map<string,array<double>>"),
        ] {
            assert_eq!(hive(sql).expect(sql), expected, "{sql}");
        }
    }

    #[test]
    fn unknown_types_and_brackets_are_refused() {
        for sql in ["interval", "array<int", "array<int>>", "map<int>", "decimal(1,2,3)", "struct<int>", "<int>"] {
            assert!(hive(sql).is_err(), "{sql}");
        }
        assert_eq!(hive("uuid").expect_err("unknown").kind(), tereza_runtime::ErrorKind::Unsupported);
    }
}
