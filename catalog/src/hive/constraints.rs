//! Constraints of tables, which are kept for engines to read: nothing here looks at rows.
//!
//! The interface has a row for each column, which says all of its constraint again. Rows of one name are one constraint; of
//! those without a name, each that begins a key anew (`key_seq`) begins another.

use tereza_runtime::{Error, ErrorKind};
use tereza_thrift::hive::{
    self, CreateTableRequest, Exception, MetaException, NoSuchObjectException, SQLAllTableConstraints,
    SQLCheckConstraint, SQLDefaultConstraint, SQLForeignKey, SQLNotNullConstraint, SQLPrimaryKey, SQLUniqueConstraint,
};

use super::names::{self, CATALOG, qualified};
use super::{Answer, Session, unless_gone};
use crate::model::{Constraint, Reference, Rule};

/// A row as the interface has it. Its types differ in the field of the name, and in what only they have.
macro_rules! row_to {
    ($type:ident, $row:ident, $name:ident $(, $own:ident: $value:expr)?) => {
        $type {
            cat_name: $row.catalog,
            table_db: $row.database,
            table_name: $row.table,
            column_name: $row.column,
            $name: $row.name,
            enable_cstr: $row.enabled,
            validate_cstr: $row.validated,
            rely_cstr: $row.relied,
            $($own: $value,)?
        }
    };
}

/// What such a row says.
macro_rules! row_from {
    ($row:ident, $name:ident, $seq:expr) => {
        Row {
            catalog: $row.cat_name,
            database: $row.table_db,
            table: $row.table_name,
            column: $row.column_name,
            seq: $seq,
            name: $row.$name,
            enabled: $row.enable_cstr,
            validated: $row.validate_cstr,
            relied: $row.rely_cstr,
        }
    };
}

impl Session {
    /// The constraints that a new table comes with.
    pub(super) fn constraints_of(request: &mut CreateTableRequest) -> Answer<Vec<Constraint>> {
        let all = SQLAllTableConstraints {
            primary_keys: request.primary_keys.take(),
            foreign_keys: request.foreign_keys.take(),
            unique_constraints: request.unique_constraints.take(),
            not_null_constraints: request.not_null_constraints.take(),
            default_constraints: request.default_constraints.take(),
            check_constraints: request.check_constraints.take(),
        };
        from_all(all)
    }

    pub(super) async fn new_primary_key(&self, args: hive::AddPrimaryKeyArgs) -> Answer<()> {
        let rows = Some(args.req.unwrap_or_default().primary_key_cols);
        self.add_constraints(SQLAllTableConstraints { primary_keys: rows, ..Default::default() }).await
    }

    pub(super) async fn new_foreign_key(&self, args: hive::AddForeignKeyArgs) -> Answer<()> {
        let rows = Some(args.req.unwrap_or_default().foreign_key_cols);
        self.add_constraints(SQLAllTableConstraints { foreign_keys: rows, ..Default::default() }).await
    }

    pub(super) async fn new_unique_constraint(&self, args: hive::AddUniqueConstraintArgs) -> Answer<()> {
        let rows = Some(args.req.unwrap_or_default().unique_constraint_cols);
        self.add_constraints(SQLAllTableConstraints { unique_constraints: rows, ..Default::default() }).await
    }

    pub(super) async fn new_not_null_constraint(&self, args: hive::AddNotNullConstraintArgs) -> Answer<()> {
        let rows = Some(args.req.unwrap_or_default().not_null_constraint_cols);
        self.add_constraints(SQLAllTableConstraints { not_null_constraints: rows, ..Default::default() }).await
    }

    pub(super) async fn new_default_constraint(&self, args: hive::AddDefaultConstraintArgs) -> Answer<()> {
        let rows = Some(args.req.unwrap_or_default().default_constraint_cols);
        self.add_constraints(SQLAllTableConstraints { default_constraints: rows, ..Default::default() }).await
    }

    pub(super) async fn new_check_constraint(&self, args: hive::AddCheckConstraintArgs) -> Answer<()> {
        let rows = Some(args.req.unwrap_or_default().check_constraint_cols);
        self.add_constraints(SQLAllTableConstraints { check_constraints: rows, ..Default::default() }).await
    }

    async fn add_constraints(&self, rows: SQLAllTableConstraints) -> Answer<()> {
        let constraints = from_all(rows)?;
        self.store().add_constraints(&constraints).await.map_err(|error| of_constraints(error, &constraints))
    }

    pub(super) async fn remove_constraint(&self, args: hive::DropConstraintArgs) -> Answer<()> {
        let request = args.req.unwrap_or_default();
        names::check_catalog(request.cat_name.as_deref())?;
        let (database, table) = (names::database(Some(request.dbname))?, names::object(Some(request.tablename)));
        let name = request.constraintname.to_lowercase();
        self.store().drop_constraint(&database, &table, &name).await.map_err(|error| match error.kind() {
            ErrorKind::NotFound => {
                let of = qualified(&database, &table);
                let message = format!("The constraint: {name} does not exist for the associated table: {of}");
                NoSuchObjectException::new(message).into()
            }
            _ => error.into(),
        })
    }

    pub(super) async fn primary_keys(&self, args: hive::GetPrimaryKeysArgs) -> Answer<hive::PrimaryKeysResponse> {
        let request = args.request.unwrap_or_default();
        let all = self.constraints(request.cat_name, request.db_name, request.tbl_name).await?;
        Ok(hive::PrimaryKeysResponse { primary_keys: all.primary_keys.unwrap_or_default() })
    }

    pub(super) async fn unique_constraints(
        &self,
        args: hive::GetUniqueConstraintsArgs,
    ) -> Answer<hive::UniqueConstraintsResponse> {
        let request = args.request.unwrap_or_default();
        let all = self.constraints(Some(request.cat_name), request.db_name, request.tbl_name).await?;
        Ok(hive::UniqueConstraintsResponse { unique_constraints: all.unique_constraints.unwrap_or_default() })
    }

    pub(super) async fn not_null_constraints(
        &self,
        args: hive::GetNotNullConstraintsArgs,
    ) -> Answer<hive::NotNullConstraintsResponse> {
        let request = args.request.unwrap_or_default();
        let all = self.constraints(Some(request.cat_name), request.db_name, request.tbl_name).await?;
        Ok(hive::NotNullConstraintsResponse { not_null_constraints: all.not_null_constraints.unwrap_or_default() })
    }

    pub(super) async fn default_constraints(
        &self,
        args: hive::GetDefaultConstraintsArgs,
    ) -> Answer<hive::DefaultConstraintsResponse> {
        let request = args.request.unwrap_or_default();
        let all = self.constraints(Some(request.cat_name), request.db_name, request.tbl_name).await?;
        Ok(hive::DefaultConstraintsResponse { default_constraints: all.default_constraints.unwrap_or_default() })
    }

    pub(super) async fn check_constraints(
        &self,
        args: hive::GetCheckConstraintsArgs,
    ) -> Answer<hive::CheckConstraintsResponse> {
        let request = args.request.unwrap_or_default();
        let all = self.constraints(Some(request.cat_name), request.db_name, request.tbl_name).await?;
        Ok(hive::CheckConstraintsResponse { check_constraints: all.check_constraints.unwrap_or_default() })
    }

    pub(super) async fn all_constraints(
        &self,
        args: hive::GetAllTableConstraintsArgs,
    ) -> Answer<hive::AllTableConstraintsResponse> {
        let request = args.request.unwrap_or_default();
        let all_table_constraints = self.constraints(Some(request.cat_name), request.db_name, request.tbl_name).await?;
        Ok(hive::AllTableConstraintsResponse { all_table_constraints })
    }

    /// Foreign keys of a table, or to one, or of the one to the other.
    pub(super) async fn foreign_keys(&self, args: hive::GetForeignKeysArgs) -> Answer<hive::ForeignKeysResponse> {
        let request = args.request.unwrap_or_default();
        names::check_catalog(request.cat_name.as_deref())?;
        let table = |database: Option<String>, table: Option<String>| match table {
            Some(table) if !table.is_empty() => Ok(Some((names::database(database)?, names::object(Some(table))))),
            _ => Ok::<_, Exception>(None),
        };
        let parent = table(request.parent_db_name, request.parent_tbl_name)?;
        let child = table(request.foreign_db_name, request.foreign_tbl_name)?;
        let mut found = match (&child, &parent) {
            (Some((database, table)), _) => unless_gone(self.store().constraints(database, table).await)?,
            (None, Some((database, table))) => unless_gone(self.store().foreign_keys_to(database, table).await)?,
            (None, None) => {
                return Err(MetaException::new("foreign keys are asked for by one of their tables").into());
            }
        }
        .unwrap_or_default();
        found.retain(|constraint| match (&constraint.rule, &parent) {
            (Rule::ForeignKey(to), Some((database, table))) => to.database == *database && to.table == *table,
            (rule, _) => matches!(rule, Rule::ForeignKey(_)),
        });
        let mut rows = Vec::new();
        for constraint in found {
            rows.extend(self.foreign_key_to(constraint).await?);
        }
        Ok(hive::ForeignKeysResponse { foreign_keys: rows })
    }

    /// All of a table, and nothing if there is none.
    async fn constraints(
        &self,
        catalog: Option<String>,
        database: String,
        table: String,
    ) -> Answer<SQLAllTableConstraints> {
        names::check_catalog(catalog.as_deref())?;
        let (database, table) = (names::database(Some(database))?, names::object(Some(table)));
        let found = unless_gone(self.store().constraints(&database, &table).await)?.unwrap_or_default();
        let (mut primary, mut foreign, mut unique) = (Vec::new(), Vec::new(), Vec::new());
        let (mut not_null, mut default, mut check) = (Vec::new(), Vec::new(), Vec::new());
        for constraint in found {
            match &constraint.rule {
                Rule::ForeignKey(_) => foreign.extend(self.foreign_key_to(constraint).await?),
                Rule::PrimaryKey => {
                    primary
                        .extend(rows_of(&constraint).map(|row| row_to!(SQLPrimaryKey, row, pk_name, key_seq: row.seq)));
                }
                Rule::Unique => {
                    unique.extend(
                        rows_of(&constraint).map(|row| row_to!(SQLUniqueConstraint, row, uk_name, key_seq: row.seq)),
                    );
                }
                Rule::NotNull => {
                    not_null.extend(rows_of(&constraint).map(|row| row_to!(SQLNotNullConstraint, row, nn_name)));
                }
                Rule::Default(text) => {
                    let row = |row: Row| row_to!(SQLDefaultConstraint, row, dc_name, default_value: Some(text.clone()));
                    default.extend(rows_of(&constraint).map(row));
                }
                Rule::Check(text) => {
                    let row =
                        |row: Row| row_to!(SQLCheckConstraint, row, dc_name, check_expression: Some(text.clone()));
                    check.extend(rows_of(&constraint).map(row));
                }
            }
        }
        Ok(SQLAllTableConstraints {
            primary_keys: Some(primary),
            foreign_keys: Some(foreign),
            unique_constraints: Some(unique),
            not_null_constraints: Some(not_null),
            default_constraints: Some(default),
            check_constraints: Some(check),
        })
    }

    /// The rows of a foreign key, with the name of the key that it refers to.
    async fn foreign_key_to(&self, constraint: Constraint) -> Answer<Vec<SQLForeignKey>> {
        let Rule::ForeignKey(to) = &constraint.rule else { return Ok(Vec::new()) };
        let keys = unless_gone(self.store().constraints(&to.database, &to.table).await)?.unwrap_or_default();
        let is_key = |key: &&Constraint| {
            matches!(key.rule, Rule::PrimaryKey | Rule::Unique)
                && key.columns.len() == to.columns.len()
                && to.columns.iter().all(|column| key.columns.contains(column))
        };
        let key = keys.iter().find(is_key).map(|key| key.name.clone());
        let row = |(row, column): (Row, &String)| SQLForeignKey {
            pktable_db: Some(to.database.clone()),
            pktable_name: Some(to.table.clone()),
            pkcolumn_name: Some(column.clone()),
            fktable_db: row.database,
            fktable_name: row.table,
            fkcolumn_name: row.column,
            key_seq: row.seq,
            update_rule: to.update_rule,
            delete_rule: to.delete_rule,
            fk_name: row.name,
            pk_name: key.clone(),
            enable_cstr: row.enabled,
            validate_cstr: row.validated,
            rely_cstr: row.relied,
            cat_name: row.catalog,
        };
        Ok(rows_of(&constraint).zip(&to.columns).map(row).collect())
    }
}

/// The exception for constraints that cannot be added.
pub(super) fn of_constraints(error: Error, constraints: &[Constraint]) -> Exception {
    let own = constraints.first();
    match error.kind() {
        ErrorKind::NotFound => NoSuchObjectException::new(error.to_string()).into(),
        ErrorKind::InvalidInput if error.message().contains("has a primary key already") => {
            let of = own.map(|own| qualified(&own.database, &own.table)).unwrap_or_default();
            MetaException::new(format!(" Primary key already exists for: {of}")).into()
        }
        // There the exception is one that the methods do not declare, so clients do not read what it says.
        ErrorKind::InvalidInput | ErrorKind::AlreadyExists => MetaException::new(error.to_string()).into(),
        _ => error.into(),
    }
}

/// What all rows say.
struct Row {
    catalog: Option<String>,
    database: Option<String>,
    table: Option<String>,
    column: Option<String>,
    seq: Option<i32>,
    name: Option<String>,
    enabled: Option<bool>,
    validated: Option<bool>,
    relied: Option<bool>,
}

/// A row for each column; one without a column if it has none.
fn rows_of(constraint: &Constraint) -> impl Iterator<Item = Row> {
    let columns: Vec<Option<String>> = match constraint.columns.as_slice() {
        [] => vec![None],
        columns => columns.iter().cloned().map(Some).collect(),
    };
    let (first, seqs) = (constraint.clone(), 1..);
    columns.into_iter().zip(seqs).map(move |(column, seq)| Row {
        catalog: Some(CATALOG.to_owned()),
        database: Some(first.database.clone()),
        table: Some(first.table.clone()),
        column,
        seq: Some(seq),
        name: Some(first.name.clone()),
        enabled: Some(first.enabled),
        validated: Some(first.validated),
        relied: Some(first.relied),
    })
}

/// A constraint that its rows are being put together to.
struct Growing {
    constraint: Constraint,
    /// Whether further rows may be of it.
    is_key: bool,
    last_seq: i32,
    /// The numbers of its columns, and the columns that they refer to.
    columns: Vec<(i32, String, Option<String>)>,
}

/// Puts constraints together out of rows.
#[derive(Default)]
struct Grouped(Vec<Growing>);

impl Grouped {
    fn push(&mut self, row: Row, rule: Rule, referred: Option<String>) -> Answer<()> {
        names::check_catalog(row.catalog.as_deref())?;
        let (database, table) = (names::database(row.database)?, names::object(row.table));
        let (name, seq) = (names::object(row.name), row.seq.unwrap_or_default());
        let is_key = matches!(rule, Rule::PrimaryKey | Rule::Unique | Rule::ForeignKey(_));
        let column = row.column.map(|column| (seq, column.to_lowercase(), referred.map(|name| name.to_lowercase())));
        let is_same = |last: &&mut Growing| {
            let own = &last.constraint;
            let is_next = if name.is_empty() { seq > last.last_seq } else { own.name == name };
            last.is_key && is_key && is_next && own.database == database && own.table == table && own.rule == rule
        };
        match self.0.last_mut().filter(is_same) {
            Some(last) => {
                last.columns.extend(column);
                last.last_seq = seq;
            }
            None => {
                let constraint = Constraint {
                    name,
                    database,
                    table,
                    columns: Vec::new(),
                    rule,
                    enabled: row.enabled.unwrap_or_default(),
                    validated: row.validated.unwrap_or_default(),
                    relied: row.relied.unwrap_or_default(),
                };
                self.0.push(Growing { constraint, is_key, last_seq: seq, columns: column.into_iter().collect() });
            }
        }
        Ok(())
    }

    fn done(self) -> Vec<Constraint> {
        let done = |mut growing: Growing| {
            growing.columns.sort_by_key(|(seq, ..)| *seq);
            let mut constraint = growing.constraint;
            for (_, column, referred) in growing.columns {
                constraint.columns.push(column);
                if let Rule::ForeignKey(reference) = &mut constraint.rule {
                    reference.columns.extend(referred);
                }
            }
            constraint
        };
        self.0.into_iter().map(done).collect()
    }
}

pub(super) fn from_all(all: SQLAllTableConstraints) -> Answer<Vec<Constraint>> {
    let mut grouped = Grouped::default();
    for key in all.primary_keys.unwrap_or_default() {
        let seq = key.key_seq;
        grouped.push(row_from!(key, pk_name, seq), Rule::PrimaryKey, None)?;
    }
    for key in all.unique_constraints.unwrap_or_default() {
        let seq = key.key_seq;
        grouped.push(row_from!(key, uk_name, seq), Rule::Unique, None)?;
    }
    for key in all.foreign_keys.unwrap_or_default() {
        let reference = Reference {
            database: names::database(key.pktable_db)?,
            table: names::object(key.pktable_name),
            columns: Vec::new(),
            update_rule: key.update_rule,
            delete_rule: key.delete_rule,
        };
        let row = Row {
            catalog: key.cat_name,
            database: key.fktable_db,
            table: key.fktable_name,
            column: key.fkcolumn_name,
            seq: key.key_seq,
            name: key.fk_name,
            enabled: key.enable_cstr,
            validated: key.validate_cstr,
            relied: key.rely_cstr,
        };
        grouped.push(row, Rule::ForeignKey(reference), key.pkcolumn_name)?;
    }
    for one in all.not_null_constraints.unwrap_or_default() {
        grouped.push(row_from!(one, nn_name, None), Rule::NotNull, None)?;
    }
    for one in all.default_constraints.unwrap_or_default() {
        let rule = Rule::Default(one.default_value.unwrap_or_default());
        grouped.push(row_from!(one, dc_name, None), rule, None)?;
    }
    for one in all.check_constraints.unwrap_or_default() {
        let rule = Rule::Check(one.check_expression.unwrap_or_default());
        let row = row_from!(one, dc_name, None);
        grouped.push(Row { column: row.column.filter(|column| !column.is_empty()), ..row }, rule, None)?;
    }
    Ok(grouped.done())
}
