//! CREATE TABLE: its grammar in Hive's, Spark's and Presto's forms, and the table it makes.

use std::sync::Arc;

use datafusion::sql::sqlparser::ast::Query;
use datafusion::sql::sqlparser::tokenizer::Token;
use tereza_catalog::model::{Column, Database, Parameters, Partition, Serde, Storage, Table, TableKind};
use tereza_runtime::{Error, ErrorKind, Result, ids};

use super::columns::{column, column_or_name};
use super::files;
use super::properties::{format_option, properties, texts};
use crate::formats::Format;
use crate::session::Session;
use crate::statement::errors;
use crate::statement::parse::{Reader, SchemaName, TableName};
use crate::statement::{Planned, Planner};
use crate::types::hive_type;

/// What stands before the columns.
pub(in crate::statement) struct Head {
    pub(super) name: TableName,
    pub(super) external: bool,
    pub(super) if_not_exists: bool,
    pub(super) or_replace: bool,
}

/// `CREATE [OR REPLACE] [EXTERNAL] TABLE [IF NOT EXISTS] name …`; every clause is optional and may come in any order.
pub(in crate::statement) struct CreateTable {
    pub(super) head: Head,
    /// Columns with their types; without, for CREATE TABLE AS, their names only.
    columns: Vec<Column>,
    pub(super) column_names: Vec<String>,
    /// Partition keys with their types, which are not among the columns.
    partition_columns: Vec<Column>,
    /// Partition keys by name: they are among the columns, or (in a table without columns) in the names of folders.
    pub(super) partition_names: Vec<String>,
    layout: Layout,
    pub(super) location: Option<String>,
    parameters: Parameters,
    like: Option<TableName>,
    pub(super) query: Option<Box<Query>>,
    /// `WITH NO DATA`
    pub(super) no_data: bool,
}

/// How files are written, as the statement says it.
#[derive(Default)]
struct Layout {
    /// The word of STORED AS, USING or Presto's `format`.
    word: Option<String>,
    /// ROW FORMAT DELIMITED was said.
    delimited: bool,
    /// ROW FORMAT SERDE's class and its properties.
    serde: Option<Serde>,
    /// STORED AS INPUTFORMAT … OUTPUTFORMAT …
    classes: Option<(String, String)>,
    /// What the format knows: `delimiter`, `has_header`, `quote`, `escape`, `null_value`, `compression`.
    options: Parameters,
}

impl CreateTable {
    /// Whether it may be done twice, or is one commit.
    pub(super) fn is_repeatable(&self) -> bool {
        self.head.if_not_exists || (self.query.is_some() && !self.no_data)
    }

    pub(super) fn parse(reader: &mut Reader<'_>, head: Head) -> Result<Self> {
        let mut create = Self {
            head,
            columns: Vec::new(),
            column_names: Vec::new(),
            partition_columns: Vec::new(),
            partition_names: Vec::new(),
            layout: Layout::default(),
            location: None,
            parameters: Parameters::new(),
            like: None,
            query: None,
            no_data: false,
        };
        if reader.at_token(&Token::LParen) {
            create.columns(reader)?;
        }
        while create.clause(reader)? {}
        create.check()?;
        Ok(create)
    }

    fn columns(&mut self, reader: &mut Reader<'_>) -> Result<()> {
        let mut like = None;
        let items = reader.list(|reader| {
            if reader.take("LIKE") {
                like = Some(reader.table_name()?);
                return Ok(None);
            }
            column_or_name(reader).map(Some)
        })?;
        self.like = like;
        for (name, type_name, comment) in items.into_iter().flatten() {
            if self.column_names.contains(&name) {
                return Err(Error::invalid_input(format!("column '{name}' is named twice")));
            }
            if let Some(type_name) = type_name {
                self.columns.push(Column { name: name.clone(), type_name, comment });
            }
            self.column_names.push(name);
        }
        if self.columns.len() != self.column_names.len() && !self.columns.is_empty() {
            return Err(Error::invalid_input("some columns have types and some have none"));
        }
        Ok(())
    }

    /// Reads one clause; false at the end.
    fn clause(&mut self, reader: &mut Reader<'_>) -> Result<bool> {
        let clauses = [
            "COMMENT",
            "PARTITIONED BY",
            "STORED AS",
            "USING",
            "ROW FORMAT DELIMITED",
            "ROW FORMAT SERDE",
            "WITH SERDEPROPERTIES",
            "LOCATION",
            "TBLPROPERTIES",
            "OPTIONS",
            "WITH ORDER",
            "WITH",
            "LIKE",
            "AS",
            "CLUSTERED BY",
            "SKEWED BY",
            "STORED BY",
        ];
        match reader.take_one(&clauses) {
            Some("COMMENT") => {
                let comment = reader.text()?;
                self.parameters.insert("comment".into(), comment);
            }
            Some("PARTITIONED BY") => self.partitioned_by(reader)?,
            Some("STORED AS") if reader.take("INPUTFORMAT") => {
                let input = reader.text()?;
                reader.expect("OUTPUTFORMAT")?;
                self.layout.classes = Some((input, reader.text()?));
            }
            Some("STORED AS" | "USING") => self.layout.word = Some(word_or_text(reader)?),
            Some("ROW FORMAT DELIMITED") => self.delimited(reader)?,
            Some("ROW FORMAT SERDE") => {
                let library = reader.text()?;
                self.layout.serde = Some(Serde { library: Some(library), ..Serde::default() });
            }
            Some("WITH SERDEPROPERTIES") => {
                let parameters = texts(reader)?;
                self.layout.serde.get_or_insert_default().parameters.extend(parameters);
            }
            Some("LOCATION") => self.location = Some(location(reader)?),
            Some("TBLPROPERTIES") => self.table_properties(reader)?,
            Some("OPTIONS") => self.options(reader)?,
            Some("WITH") => self.presto_properties(reader)?,
            Some("LIKE") => self.like = Some(reader.table_name()?),
            Some("AS") => {
                self.query = Some(reader.query()?);
                self.no_data = reader.take("WITH NO DATA");
                reader.take("WITH DATA");
            }
            Some(words) => return Err(reader.refuse(Error::unsupported(format!("{words} in CREATE TABLE")))),
            None => return Ok(false),
        }
        Ok(true)
    }

    fn partitioned_by(&mut self, reader: &mut Reader<'_>) -> Result<()> {
        for (name, type_name, comment) in reader.list(column_or_name)? {
            match type_name {
                Some(type_name) => self.partition_columns.push(Column { name, type_name, comment }),
                None => self.partition_names.push(name),
            }
        }
        Ok(())
    }

    fn delimited(&mut self, reader: &mut Reader<'_>) -> Result<()> {
        self.layout.delimited = true;
        let clauses = [
            "FIELDS TERMINATED BY",
            "ESCAPED BY",
            "LINES TERMINATED BY",
            "NULL DEFINED AS",
            "COLLECTION ITEMS TERMINATED BY",
            "MAP KEYS TERMINATED BY",
        ];
        while let Some(clause) = reader.take_one(&clauses) {
            let value = unescape(&reader.text()?);
            match (clause, value.as_str()) {
                ("FIELDS TERMINATED BY", _) => self.layout.options.insert("delimiter".into(), value),
                ("ESCAPED BY", _) => self.layout.options.insert("escape".into(), value),
                ("NULL DEFINED AS", _) => self.layout.options.insert("null_value".into(), value),
                ("LINES TERMINATED BY", "\n") => None,
                _ => return Err(reader.refuse(Error::unsupported(format!("{clause} {value:?}")))),
            };
        }
        Ok(())
    }

    /// Hive's properties belong to the table; what they say of the files, the format is told too.
    fn table_properties(&mut self, reader: &mut Reader<'_>) -> Result<()> {
        for (key, value) in texts(reader)? {
            if let Some((option, value)) = format_option(&key, &value)? {
                self.layout.options.insert(option.into(), value);
            }
            self.parameters.insert(key, value);
        }
        Ok(())
    }

    /// Spark's and DataFusion's options are about the files only.
    fn options(&mut self, reader: &mut Reader<'_>) -> Result<()> {
        for (key, value) in texts(reader)? {
            if key.eq_ignore_ascii_case("path") {
                self.location = Some(value);
            } else if let Some((option, value)) = format_option(&key, &value)? {
                self.layout.options.insert(option.into(), value);
            } else {
                return Err(Error::unsupported(format!("option '{key}' of files"))
                    .with_hint("known are delimiter, has_header, quote, escape, null_value and compression"));
            }
        }
        Ok(())
    }

    fn presto_properties(&mut self, reader: &mut Reader<'_>) -> Result<()> {
        for (key, value) in properties(reader)? {
            match key.to_lowercase().as_str() {
                "format" => self.layout.word = Some(value.text(&key)?),
                "external_location" => {
                    self.location = Some(value.text(&key)?);
                    self.head.external = true;
                }
                "location" => self.location = Some(value.text(&key)?),
                "partitioned_by" => {
                    self.partition_names.extend(value.list().into_iter().map(|name| name.to_lowercase()));
                }
                _ => {
                    let value = value.text(&key)?;
                    match format_option(&key, &value)? {
                        Some((option, value)) => self.layout.options.insert(option.into(), value),
                        None => {
                            return Err(
                                Error::unsupported(format!("table property '{key}'")).with_hint("use TBLPROPERTIES")
                            );
                        }
                    };
                }
            }
        }
        Ok(())
    }

    fn check(&self) -> Result<()> {
        let name = &self.head.name;
        if self.head.if_not_exists && self.head.or_replace {
            return Err(Error::invalid_input("OR REPLACE and IF NOT EXISTS exclude each other"));
        }
        if self.head.external && self.location.is_none() {
            return Err(Error::invalid_input(format!("external table {name} needs a LOCATION")));
        }
        if !self.partition_columns.is_empty() && !self.partition_names.is_empty() {
            return Err(Error::invalid_input("some partition keys have types and some have none"));
        }
        if let Some(key) = self.partition_columns.iter().find(|key| self.column_names.contains(&key.name)) {
            return Err(Error::invalid_input(format!("partition key '{}' is a column already", key.name))
                .with_hint("name it without its type in PARTITIONED BY"));
        }
        if self.query.is_some() {
            if !self.columns.is_empty() || !self.partition_columns.is_empty() {
                return Err(Error::invalid_input("CREATE TABLE AS takes its types from the query")
                    .with_hint("name columns and partition keys without types"));
            }
            if self.like.is_some() {
                return Err(Error::invalid_input("CREATE TABLE takes LIKE or AS, not both"));
            }
        } else if self.columns.is_empty() && !self.column_names.is_empty() {
            return Err(Error::invalid_input(format!("column '{}' has no type", self.column_names[0])));
        }
        Ok(())
    }

    pub(super) async fn plan(mut self, planner: &Planner<'_>) -> Result<Planned> {
        if let Some(query) = self.query.take() {
            return super::as_select::plan(self, query, planner).await;
        }
        let session = Arc::clone(planner.session);
        Ok(Planned::command(async move { self.run(&session).await }))
    }

    async fn run(mut self, session: &Session) -> Result<()> {
        let Some(database) = self.target(session).await? else { return Ok(()) };
        let inferred = self.like.is_none() && self.column_names.is_empty();
        let mut table = match self.like.take() {
            Some(like) => self.copy_of(session, &like).await?,
            None if inferred => self.inferred(session).await?,
            None => {
                let (columns, keys) = self.split(self.columns.clone())?;
                self.table(session, columns, keys)?
            }
        };
        table.storage.location = Some(match &table.storage.location {
            Some(location) => location.clone(),
            None => free_location(session, &database, &self.head.name.table).await?,
        });
        if let (TableKind::Managed, Some(location)) = (table.kind, &table.storage.location) {
            session.engine.stores.place(location)?.make_folder().await?;
        }
        let store = &session.engine.catalog;
        match store.create_table(&table).await {
            Err(error) if error.kind() == ErrorKind::AlreadyExists && self.head.if_not_exists => return Ok(()),
            done => done?,
        }
        // The partitions of a table whose columns were found in its files are found there as well, once.
        if inferred && !table.partition_keys.is_empty() {
            let partitions = found_partitions(session, &table).await?;
            store.add_partitions(&table.database, &table.name, &partitions, true).await?;
        }
        Ok(())
    }

    /// The database that the table goes into; `None` if the table exists and that is fine.
    pub(super) async fn target(&self, session: &Session) -> Result<Option<Database>> {
        let name = &self.head.name;
        let schema = SchemaName { catalog: name.catalog.clone(), schema: name.schema.clone() };
        let database = errors::database(session, &schema).await?;
        match session.engine.catalog.table(&name.schema, &name.table).await {
            Ok(_) if self.head.if_not_exists => Ok(None),
            Ok(_) if self.head.or_replace => {
                Err(Error::unsupported(format!("CREATE OR REPLACE TABLE on {name}, which exists"))
                    .with_hint("DROP TABLE it first, or write its rows with INSERT OVERWRITE"))
            }
            Ok(_) => Err(Error::already_exists(format!("table {name} exists already"))),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Some(database)),
            Err(error) => Err(error),
        }
    }

    /// Parts the columns into those of the files and the partition keys.
    pub(super) fn split(&self, columns: Vec<Column>) -> Result<(Vec<Column>, Vec<Column>)> {
        if let Some(missing) =
            self.partition_names.iter().find(|name| !columns.iter().any(|column| column.name == **name))
        {
            let error = Error::invalid_input(format!("partition key '{missing}' is not among the columns"));
            return Err(errors::did_you_mean(error, missing, columns.iter().map(|column| column.name.as_str())));
        }
        let mut keys = self.partition_columns.clone();
        for name in &self.partition_names {
            keys.extend(columns.iter().find(|column| column.name == *name).cloned());
        }
        let columns: Vec<Column> =
            columns.into_iter().filter(|column| !self.partition_names.contains(&column.name)).collect();
        if columns.is_empty() {
            return Err(Error::invalid_input(format!(
                "table {} has no columns besides its partition keys",
                self.head.name
            )));
        }
        Ok((columns, keys))
    }

    /// The table of this statement with these columns and keys; its location is set if the statement says it.
    pub(super) fn table(&self, session: &Session, columns: Vec<Column>, partition_keys: Vec<Column>) -> Result<Table> {
        let location = match &self.location {
            Some(location) => Some(session.engine.stores.kept_url(location)?),
            None => None,
        };
        let mut parameters = self.parameters.clone();
        // Dropping a table must never delete files at a place that its maker chose.
        let kind = if location.is_some() { TableKind::External } else { TableKind::Managed };
        match kind {
            TableKind::External => parameters.insert("EXTERNAL".into(), "TRUE".into()),
            // A table that begins empty can keep its counts as it is written; a partitioned one has them in its partitions.
            _ => {
                if partition_keys.is_empty() {
                    parameters.extend(no_rows());
                }
                None
            }
        };
        Ok(Table {
            database: self.head.name.schema.clone(),
            name: self.head.name.table.clone(),
            kind,
            owner: Some(session.user.clone()),
            create_time_s: 0,
            last_access_time_s: 0,
            retention: 0,
            storage: self.layout.storage(columns, location)?,
            partition_keys,
            parameters,
            view_original_text: None,
            view_expanded_text: None,
            owner_kind: Default::default(),
        })
    }

    /// A table whose columns are those of the files at its location.
    async fn inferred(&self, session: &Session) -> Result<Table> {
        let Some(location) = &self.location else {
            return Err(Error::invalid_input(format!("table {} has no columns", self.head.name))
                .with_hint("write them, or use EXTERNAL and LOCATION to take them from files, or AS and a query"));
        };
        let place = session.engine.stores.place(location)?;
        let probe = self.layout.storage(Vec::new(), Some(place.url()))?;
        let keys = self.partition_keys_by_name();
        let schema =
            files::infer_schema(session, &place, !keys.is_empty(), &Format::of(&probe)?.reader(&probe)?).await?;

        let columns = schema
            .fields()
            .iter()
            .filter(|field| !keys.iter().any(|key| key.name.eq_ignore_ascii_case(field.name())))
            .map(|field| {
                let type_name = hive_type(field.data_type())
                    .map_err(|error| error.context(format!("column '{}'", field.name())))?;
                Ok(Column { name: field.name().to_lowercase(), type_name, comment: None })
            })
            .collect::<Result<Vec<_>>>()?;
        self.table(session, columns, keys)
    }

    fn partition_keys_by_name(&self) -> Vec<Column> {
        let named = self.partition_names.iter().map(|name| Column {
            name: name.clone(),
            type_name: "string".into(),
            comment: None,
        });
        self.partition_columns.iter().cloned().chain(named).collect()
    }

    /// A new, empty table with the columns, keys and format of another one.
    async fn copy_of(&self, session: &Session, like: &TableName) -> Result<Table> {
        like.require_tereza("CREATE TABLE LIKE")?;
        let model = errors::table(session, like).await?.table;
        if matches!(model.kind, TableKind::View | TableKind::MaterializedView) {
            return Err(Error::unsupported(format!("CREATE TABLE LIKE the view {like}"))
                .with_hint("CREATE TABLE AS SELECT … WITH NO DATA makes a table with its columns"));
        }
        let mut table = self.table(session, model.storage.columns.clone(), model.partition_keys)?;
        if self.layout.is_default() {
            table.storage = Storage { location: table.storage.location, ..model.storage };
        }
        Ok(table)
    }
}

impl Layout {
    fn is_default(&self) -> bool {
        self.word.is_none()
            && !self.delimited
            && self.serde.is_none()
            && self.classes.is_none()
            && self.options.is_empty()
    }

    fn storage(&self, columns: Vec<Column>, location: Option<String>) -> Result<Storage> {
        if let Some((input, output)) = &self.classes {
            return self.with_classes(columns, location, input, output);
        }
        if let Some(serde) = self.serde.as_ref().filter(|serde| serde.library.is_some()) {
            let probe = Storage { serde: serde.clone(), ..Storage::default() };
            let format = match &self.word {
                Some(word) => Format::parse(word)?,
                None => Format::of(&probe)?,
            };
            let mut storage = format.storage(columns, location, &self.options)?;
            storage.serde.library.clone_from(&serde.library);
            storage.serde.parameters.clone_from(&serde.parameters);
            // What it was told must mean something to the reader.
            Format::of(&storage)?;
            return Ok(storage);
        }
        let word = match &self.word {
            Some(word) => word.as_str(),
            None if self.delimited => "TEXTFILE",
            None => "PARQUET",
        };
        let mut storage = Format::parse(word)?.storage(columns, location, &self.options)?;
        if let Some(serde) = &self.serde {
            storage.serde.parameters.extend(serde.parameters.clone());
        }
        Ok(storage)
    }

    fn with_classes(
        &self,
        columns: Vec<Column>,
        location: Option<String>,
        input: &str,
        output: &str,
    ) -> Result<Storage> {
        let storage = Storage {
            columns,
            location,
            input_format: Some(input.into()),
            output_format: Some(output.into()),
            serde: self.serde.clone().unwrap_or_default(),
            ..Storage::default()
        };
        Format::of(&storage)?;
        Ok(storage)
    }
}

/// Makes a table that is nothing but its parameters, as other systems keep theirs in a metastore: without columns, in Hive's own
/// format, with a folder.
pub(in crate::statement) async fn create_with_parameters(
    session: &Session,
    name: &TableName,
    parameters: Parameters,
) -> Result<()> {
    let schema = SchemaName { catalog: name.catalog.clone(), schema: name.schema.clone() };
    let database = errors::database(session, &schema).await?;
    let store = &session.engine.catalog;
    match store.table(&name.schema, &name.table).await {
        Ok(_) => return Err(Error::already_exists(format!("table {name} exists already"))),
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let location = free_location(session, &database, &name.table).await?;
    session.engine.stores.place(&location)?.make_folder().await?;
    let storage = Format::parse("TEXTFILE")?.storage(Vec::new(), Some(location), &Parameters::new())?;
    let table = Table {
        database: name.schema.clone(),
        name: name.table.clone(),
        kind: TableKind::Managed,
        owner: Some(session.user.clone()),
        create_time_s: 0,
        last_access_time_s: 0,
        retention: 0,
        storage,
        partition_keys: Vec::new(),
        parameters,
        view_original_text: None,
        view_expanded_text: None,
        owner_kind: Default::default(),
    };
    store.create_table(&table).await
}

/// The counts of a table without rows, and Hive's mark that they are right.
pub(super) fn no_rows() -> Parameters {
    let counts = ["numFiles", "numRows", "totalSize"].map(|count| (count.to_owned(), "0".to_owned()));
    let mut parameters = Parameters::from(counts);
    parameters.insert("COLUMN_STATS_ACCURATE".into(), r#"{"BASIC_STATS":"true"}"#.into());
    parameters
}

/// A folder for a new managed table: below its database's, under its name if nothing is there and no table has it. A table
/// that was renamed keeps its folder, also while it has no rows.
pub(super) async fn free_location(session: &Session, database: &Database, table: &str) -> Result<String> {
    let location = format!("{}/{table}", database.location.trim_end_matches('/'));
    let is_taken = session.engine.catalog.is_location_taken(&location).await?;
    if !is_taken && files::is_empty(&session.engine.stores.place(&location)?).await? {
        return Ok(location);
    }
    Ok(format!("{location}-{}", ids::new_id()))
}

/// The partitions in the folders of a table.
pub(super) async fn found_partitions(session: &Session, table: &Table) -> Result<Vec<Partition>> {
    let Some(location) = &table.storage.location else {
        return Err(Error::invalid_input(format!("table {}.{} has no location", table.database, table.name)));
    };
    let place = session.engine.stores.place(location)?;
    let folders = files::partition_folders(&place, &table.partition_keys).await?;
    let partition = |folder: files::Folder| Partition {
        values: folder.values,
        create_time_s: 0,
        last_access_time_s: 0,
        storage: Storage {
            location: Some(format!("{}/{}", location.trim_end_matches('/'), folder.name)),
            ..table.storage.clone()
        },
        parameters: Parameters::new(),
    };
    Ok(folders.into_iter().map(partition).collect())
}

fn word_or_text(reader: &mut Reader<'_>) -> Result<String> {
    if reader.word().is_some() { reader.identifier() } else { reader.text() }
}

/// `'…'`, or DataFusion's `('…')`.
fn location(reader: &mut Reader<'_>) -> Result<String> {
    if !reader.at_token(&Token::LParen) {
        return reader.text();
    }
    let mut locations = reader.list(Reader::text)?;
    match (locations.pop(), locations.is_empty()) {
        (Some(location), true) => Ok(location),
        _ => Err(Error::unsupported("a table with several locations")),
    }
}

/// Hive writes characters of ROW FORMAT as `\t`, `\n`, `\001` or themselves.
fn unescape(text: &str) -> String {
    match text {
        "\\t" => "\t".into(),
        "\\n" => "\n".into(),
        "\\r" => "\r".into(),
        "\\\\" => "\\".into(),
        _ => match text.strip_prefix('\\').and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(code) if code < 128 => char::from(code).to_string(),
            _ => text.into(),
        },
    }
}

/// Reads the columns of ALTER TABLE ADD COLUMNS.
pub(super) fn added_columns(reader: &mut Reader<'_>) -> Result<Vec<Column>> {
    if reader.at_token(&Token::LParen) { reader.list(column) } else { Ok(vec![column(reader)?]) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statement::ddl::Ddl;
    use crate::statement::parse::{Own, Parsed, Text, tests::scope};

    fn create(sql: &str) -> Result<CreateTable> {
        match Text::new(sql, scope())?.parse()? {
            Parsed::Own(Own::Ddl(ddl)) => match *ddl {
                Ddl::CreateTable(create) => Ok(*create),
                _ => panic!("{sql} is another statement"),
            },
            _ => panic!("{sql} is another statement"),
        }
    }

    #[test]
    fn presto_says_everything_in_with() {
        let create = create(
            "create table t with (format = 'CSV', external_location = 's3://b/p', partitioned_by = ARRAY['K'], \
             skip_header_line_count = 1) as select 1 as a, 2 as k",
        )
        .expect("reads");
        assert_eq!(create.layout.word.as_deref(), Some("CSV"));
        assert_eq!(create.location.as_deref(), Some("s3://b/p"));
        assert!(create.head.external);
        assert_eq!(create.partition_names, ["k"]);
        assert_eq!(create.layout.options.get("has_header").map(String::as_str), Some("true"));
        assert!(create.query.is_some());
    }

    #[test]
    fn hive_says_how_rows_are_delimited() {
        let create = create(
            "create external table t comment 'c' row format delimited fields terminated by '\\t' null defined as 'NIL' \
             stored as textfile location '/x'",
        )
        .expect("reads");
        assert_eq!(create.layout.options.get("delimiter").map(String::as_str), Some("\t"));
        assert_eq!(create.layout.options.get("null_value").map(String::as_str), Some("NIL"));
        assert_eq!(create.parameters.get("comment").map(String::as_str), Some("c"));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for (sql, message) in [
            ("create external table t stored as parquet", "needs a LOCATION"),
            ("create or replace table if not exists t as select 1", "exclude each other"),
            ("create table t (a) stored as parquet", "has no type"),
            ("create table t partitioned by (k int) as select 1", "takes its types from the query"),
            ("create table t (a, a) as select 1, 2", "named twice"),
            ("create table t like s as select 1", "LIKE or AS"),
        ] {
            let error = create(sql).err().unwrap_or_else(|| panic!("'{sql}' was read"));
            assert!(error.message().contains(message), "{error}");
        }
        let error = create("create table t clustered by (a) into 4 buckets as select 1").err().expect("buckets");
        assert_eq!(error.kind(), ErrorKind::Unsupported);
    }

    #[test]
    fn hive_escapes_are_undone() {
        assert_eq!(unescape("\\001"), "\u{1}");
        assert_eq!(unescape("\\t"), "\t");
        assert_eq!(unescape(","), ",");
    }
}
