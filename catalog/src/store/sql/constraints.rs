//! Constraints: `KEY_CONSTRAINTS`, a row for each column of each.
//!
//! The table whose columns a constraint is about is the row's `PARENT`, but for a foreign key, where it is the `CHILD` and
//! the other table is the `PARENT`. A column is named by its column list and its place in it; the place of a partition key
//! comes without a list. So rows are written anew when the columns of a table change ([`follow`]).

use std::collections::BTreeSet;

use sqlx::{AssertSqlSafe, query, query_as, query_scalar};
use tereza_runtime::{Error, Result as PublicResult, ids};

use super::tables::{self, Head};
use super::{Connection, Result, rows};
use crate::model::{Column, Constraint, Reference, Rule};
use crate::store::names;

/// The metastore's numbers of what constraints say (`CONSTRAINT_TYPE`).
mod kind {
    pub(super) const PRIMARY_KEY: i16 = 0;
    pub(super) const FOREIGN_KEY: i16 = 1;
    pub(super) const UNIQUE: i16 = 2;
    pub(super) const NOT_NULL: i16 = 3;
    pub(super) const DEFAULT: i16 = 4;
    pub(super) const CHECK: i16 = 5;
}

/// The bits of `ENABLE_VALIDATE_RELY`.
mod flag {
    pub(super) const ENABLED: i16 = 4;
    pub(super) const VALIDATED: i16 = 2;
    pub(super) const RELIED: i16 = 1;
}

/// The place of the column that a check of whole rows is about.
const NO_COLUMN: i32 = -1;

/// Constraints of a table, sorted by name.
pub(crate) async fn list(conn: &mut Connection, database: &str, table: &str) -> Result<Vec<Constraint>> {
    let head = tables::find(conn, database, table).await?;
    let mut found = of_table(conn, head.id, Side::Parent).await?;
    // One of these is a foreign key to the table.
    found.retain(|constraint| !matches!(constraint.rule, Rule::ForeignKey(_)));
    found.extend(of_table(conn, head.id, Side::Child).await?);
    found.sort_by(|one, two| one.name.cmp(&two.name));
    Ok(found)
}

/// Foreign keys that refer to a table, sorted by name.
pub(crate) async fn foreign_keys_to(conn: &mut Connection, database: &str, table: &str) -> Result<Vec<Constraint>> {
    let head = tables::find(conn, database, table).await?;
    let mut found = of_table(conn, head.id, Side::Parent).await?;
    found.retain(|constraint| matches!(constraint.rule, Rule::ForeignKey(_)));
    Ok(found)
}

/// Adds constraints, keys before what may refer to them.
pub(crate) async fn add(conn: &mut Connection, constraints: &[Constraint]) -> Result<()> {
    let (foreign, others): (Vec<_>, Vec<_>) =
        constraints.iter().partition(|constraint| matches!(constraint.rule, Rule::ForeignKey(_)));
    for constraint in others.into_iter().chain(foreign) {
        add_one(conn, constraint).await?;
    }
    Ok(())
}

/// Drops a constraint of a table, or a foreign key to it.
pub(crate) async fn drop(conn: &mut Connection, database: &str, table: &str, name: &str) -> Result<()> {
    let head = tables::find_to_change(conn, database, table).await?;
    let deleted =
        query("DELETE FROM KEY_CONSTRAINTS WHERE CONSTRAINT_NAME = ? AND (PARENT_TBL_ID = ? OR CHILD_TBL_ID = ?)")
            .bind(names::fold(name))
            .bind(head.id)
            .bind(head.id)
            .execute(conn)
            .await?;
    if deleted.rows_affected() == 0 {
        let message = format!("table '{}' has no constraint '{name}'", head.full_name());
        return Err(Error::not_found(message).into());
    }
    Ok(())
}

/// The columns that the constraints of a table and the foreign keys to it are about; nothing if it has none.
pub(crate) async fn columns_before(conn: &mut Connection, head: &Head) -> Result<Option<Columns>> {
    let exists =
        query_scalar("SELECT CONSTRAINT_TYPE FROM KEY_CONSTRAINTS WHERE PARENT_TBL_ID = ? OR CHILD_TBL_ID = ? LIMIT 1");
    let some: Option<i16> = exists.bind(head.id).bind(head.id).fetch_optional(&mut *conn).await?;
    match some {
        None => Ok(None),
        Some(_) => Columns::load(conn, head).await.map(Some),
    }
}

/// Lets the constraints of a table, and the foreign keys to it, follow its columns, which were `before`: by name, or, where
/// one column took another's place, by place. A constraint goes with any of its columns.
pub(crate) async fn follow(conn: &mut Connection, head: &Head, before: &Columns) -> Result<()> {
    let now = Columns::load(conn, head).await?;
    if now.list == before.list && now.keys == before.keys {
        return Ok(());
    }
    for (table, list, place) in
        [("PARENT_TBL_ID", "PARENT_CD_ID", "PARENT_INTEGER_IDX"), ("CHILD_TBL_ID", "CHILD_CD_ID", "CHILD_INTEGER_IDX")]
    {
        let select =
            format!("SELECT CONSTRAINT_NAME, POSITION, {list}, {place} FROM KEY_CONSTRAINTS WHERE {table} = ?");
        type Row = (String, i64, Option<i64>, Option<i32>);
        // Safe: the names are constants.
        let found: Vec<Row> = query_as(AssertSqlSafe(select)).bind(head.id).fetch_all(&mut *conn).await?;
        for (name, position, old_list, old_place) in found {
            let old_place = old_place.unwrap_or(NO_COLUMN);
            // A metastore leaves behind the list that a column was in, and with that forgets which it was.
            if old_place == NO_COLUMN || old_list.is_some_and(|list| list != before.list) {
                continue;
            }
            let Some((new_list, new_place)) = now.follow(before, old_list, old_place) else {
                query("DELETE FROM KEY_CONSTRAINTS WHERE CONSTRAINT_NAME = ?").bind(name).execute(&mut *conn).await?;
                continue;
            };
            let update = format!(
                "UPDATE KEY_CONSTRAINTS SET {list} = ?, {place} = ? WHERE CONSTRAINT_NAME = ? AND POSITION = ?"
            );
            query(AssertSqlSafe(update))
                .bind(new_list)
                .bind(new_place)
                .bind(name)
                .bind(position)
                .execute(&mut *conn)
                .await?;
        }
    }
    Ok(())
}

/// The columns of a table as constraints name them.
pub(crate) struct Columns {
    list: i64,
    columns: Vec<Column>,
    keys: Vec<Column>,
}

impl Columns {
    async fn load(conn: &mut Connection, head: &Head) -> Result<Self> {
        let kept = tables::load_storage(conn, head).await?;
        let keys = tables::partition_keys(conn, head.id).await?;
        Ok(Self { list: kept.column_list, columns: kept.storage.columns, keys })
    }

    /// The list and place of a column or partition key.
    fn place(&self, name: &str) -> Option<(Option<i64>, i32)> {
        let at = |columns: &[Column]| columns.iter().position(|column| column.name == name);
        let (list, at) = match at(&self.columns) {
            Some(at) => (Some(self.list), at),
            None => (None, at(&self.keys)?),
        };
        Some((list, i32::try_from(at).ok()?))
    }

    fn type_of(&self, name: &str) -> &str {
        let found = self.columns.iter().chain(&self.keys).find(|column| column.name == name);
        found.map_or("", |column| column.type_name.as_str())
    }

    /// Where the column is now that was at this place of `before`.
    fn follow(&self, before: &Self, list: Option<i64>, place: i32) -> Option<(Option<i64>, i32)> {
        let (old, new) = if list.is_some() { (&before.columns, &self.columns) } else { (&before.keys, &self.keys) };
        let at = usize::try_from(place).ok()?;
        let name = &old.get(at)?.name;
        let same_name = new.iter().position(|column| column.name == *name);
        let renamed = || {
            let other = &new.get(at)?.name;
            let is_new = !old.iter().any(|column| column.name == *other);
            (old.len() == new.len() && is_new).then_some(at)
        };
        let at = i32::try_from(same_name.or_else(renamed)?).ok()?;
        Some((list.map(|_| self.list), at))
    }
}

/// Which of its two tables a constraint is looked up by.
#[derive(Clone, Copy)]
enum Side {
    Parent,
    Child,
}

/// The constraints that have a table on that side, sorted by name.
async fn of_table(conn: &mut Connection, table: i64, side: Side) -> Result<Vec<Constraint>> {
    type Text = Option<String>;
    type Row = (String, i16, i16, Text, Option<i16>, Option<i16>, String, String, Text, Text, Text, Text);
    const SELECT: &str = "SELECT c.CONSTRAINT_NAME, c.CONSTRAINT_TYPE, c.ENABLE_VALIDATE_RELY, c.DEFAULT_VALUE, \
         c.UPDATE_RULE, c.DELETE_RULE, pd.NAME, pt.TBL_NAME, COALESCE(pc.COLUMN_NAME, pk.PKEY_NAME), cd.NAME, ct.TBL_NAME, \
         COALESCE(cc.COLUMN_NAME, ck.PKEY_NAME) FROM KEY_CONSTRAINTS c \
         JOIN TBLS pt ON pt.TBL_ID = c.PARENT_TBL_ID JOIN DBS pd ON pd.DB_ID = pt.DB_ID \
         LEFT JOIN COLUMNS_V2 pc ON pc.CD_ID = c.PARENT_CD_ID AND pc.INTEGER_IDX = c.PARENT_INTEGER_IDX \
         LEFT JOIN PARTITION_KEYS pk ON c.PARENT_CD_ID IS NULL AND pk.TBL_ID = c.PARENT_TBL_ID \
         AND pk.INTEGER_IDX = c.PARENT_INTEGER_IDX \
         LEFT JOIN TBLS ct ON ct.TBL_ID = c.CHILD_TBL_ID LEFT JOIN DBS cd ON cd.DB_ID = ct.DB_ID \
         LEFT JOIN COLUMNS_V2 cc ON cc.CD_ID = c.CHILD_CD_ID AND cc.INTEGER_IDX = c.CHILD_INTEGER_IDX \
         LEFT JOIN PARTITION_KEYS ck ON c.CHILD_CD_ID IS NULL AND ck.TBL_ID = c.CHILD_TBL_ID \
         AND ck.INTEGER_IDX = c.CHILD_INTEGER_IDX WHERE ";
    let by = match side {
        Side::Parent => "c.PARENT_TBL_ID",
        Side::Child => "c.CHILD_TBL_ID",
    };
    // Safe: all of it is constant.
    let select = AssertSqlSafe(format!("{SELECT}{by} = ? ORDER BY c.CONSTRAINT_NAME, c.POSITION"));
    let found: Vec<Row> = query_as(select).bind(table).fetch_all(conn).await?;
    let mut constraints: Vec<Constraint> = Vec::new();
    for (
        name,
        kind,
        flags,
        text,
        update,
        delete,
        parent_database,
        parent_table,
        parent_column,
        child_database,
        child_table,
        child_column,
    ) in found
    {
        let is_foreign = kind == kind::FOREIGN_KEY;
        if constraints.last().is_none_or(|last| last.name != name) {
            let reference = Reference {
                database: parent_database.clone(),
                table: parent_table.clone(),
                columns: Vec::new(),
                update_rule: update.map(i32::from),
                delete_rule: delete.map(i32::from),
            };
            let rule = match kind {
                kind::PRIMARY_KEY => Rule::PrimaryKey,
                kind::FOREIGN_KEY => Rule::ForeignKey(reference),
                kind::UNIQUE => Rule::Unique,
                kind::NOT_NULL => Rule::NotNull,
                kind::DEFAULT => Rule::Default(text.unwrap_or_default()),
                kind::CHECK => Rule::Check(text.unwrap_or_default()),
                // What a later metastore may have put there.
                _ => continue,
            };
            let own =
                if is_foreign { (child_database, child_table) } else { (Some(parent_database), Some(parent_table)) };
            constraints.push(Constraint {
                name,
                database: own.0.unwrap_or_default(),
                table: own.1.unwrap_or_default(),
                columns: Vec::new(),
                rule,
                enabled: flags & flag::ENABLED != 0,
                validated: flags & flag::VALIDATED != 0,
                relied: flags & flag::RELIED != 0,
            });
        }
        let Some(last) = constraints.last_mut() else { continue };
        if let Rule::ForeignKey(reference) = &mut last.rule {
            reference.columns.extend(parent_column);
            last.columns.extend(child_column);
        } else {
            last.columns.extend(parent_column);
        }
    }
    Ok(constraints)
}

/// A row's two tables and columns.
struct Ends {
    parent: i64,
    /// List and place.
    parent_columns: Vec<(Option<i64>, i32)>,
    child: Option<i64>,
    child_columns: Vec<(Option<i64>, i32)>,
}

async fn add_one(conn: &mut Connection, constraint: &Constraint) -> Result<()> {
    let head = tables::find_to_change(conn, &constraint.database, &constraint.table).await?;
    let columns = Columns::load(conn, &head).await?;
    let own = folded(&constraint.columns);
    check(constraint, &own)?;
    let places = places(&head, &columns, &own)?;
    let name = new_name(conn, constraint).await?;
    let mut rules = (None, None);
    let (kind, text) = match &constraint.rule {
        Rule::PrimaryKey => {
            let others = of_table(conn, head.id, Side::Parent).await?;
            if others.iter().any(|other| other.rule == Rule::PrimaryKey) {
                let message = format!("table '{}' has a primary key already", head.full_name());
                return Err(Error::invalid_input(message).into());
            }
            (kind::PRIMARY_KEY, None)
        }
        Rule::ForeignKey(reference) => {
            rules = (small(reference.update_rule)?, small(reference.delete_rule)?);
            (kind::FOREIGN_KEY, None)
        }
        Rule::Unique => (kind::UNIQUE, None),
        Rule::NotNull => (kind::NOT_NULL, None),
        Rule::Default(text) => (kind::DEFAULT, Some(text)),
        Rule::Check(text) => (kind::CHECK, Some(text)),
    };
    names::check_optional_chars("the expression of a constraint", text, names::CONSTRAINT_CHARS)?;
    let ends = match &constraint.rule {
        Rule::ForeignKey(reference) => {
            let parent = tables::find_to_change(conn, &reference.database, &reference.table).await?;
            let parent_columns = referenced(conn, &parent, reference, &columns, &own).await?;
            Ends { parent: parent.id, parent_columns, child: Some(head.id), child_columns: places }
        }
        _ => {
            let none = vec![(None, NO_COLUMN); places.len().max(1)];
            let places = if places.is_empty() { none } else { places };
            Ends { parent: head.id, parent_columns: places, child: None, child_columns: Vec::new() }
        }
    };
    let bit = |is_set: bool, bit: i16| if is_set { bit } else { 0 };
    let flags = bit(constraint.enabled, flag::ENABLED)
        | bit(constraint.validated, flag::VALIDATED)
        | bit(constraint.relied, flag::RELIED);
    let numbered: Vec<(usize, i64)> = (0..ends.parent_columns.len()).zip(1..).collect();
    let into = "INSERT INTO KEY_CONSTRAINTS (CONSTRAINT_NAME, POSITION, CONSTRAINT_TYPE, PARENT_TBL_ID, PARENT_CD_ID, \
                PARENT_INTEGER_IDX, CHILD_TBL_ID, CHILD_CD_ID, CHILD_INTEGER_IDX, UPDATE_RULE, DELETE_RULE, \
                ENABLE_VALIDATE_RELY, DEFAULT_VALUE) ";
    rows::insert(conn, into, 13, &numbered, |values, (at, position)| {
        let (parent_list, parent_place) = ends.parent_columns[*at];
        let child = ends.child_columns.get(*at);
        values
            .push_bind(name.clone())
            .push_bind(*position)
            .push_bind(kind)
            .push_bind(ends.parent)
            .push_bind(parent_list)
            .push_bind(parent_place)
            .push_bind(ends.child)
            .push_bind(child.and_then(|(list, _)| *list))
            .push_bind(child.map(|(_, place)| *place))
            .push_bind(rules.0)
            .push_bind(rules.1)
            .push_bind(flags)
            .push_bind(text.cloned());
    })
    .await
}

/// The name as it is kept, which no other constraint has.
async fn new_name(conn: &mut Connection, constraint: &Constraint) -> Result<String> {
    if constraint.name.is_empty() {
        let kind = match constraint.rule {
            Rule::PrimaryKey => "pk",
            Rule::ForeignKey(_) => "fk",
            Rule::Unique => "uk",
            Rule::NotNull => "nn",
            Rule::Default(_) => "dc",
            Rule::Check(_) => "cc",
        };
        return Ok(format!("{kind}_{}", ids::new_id().replace('-', "_")));
    }
    let name = names::new_name("constraint", &constraint.name, names::CONSTRAINT_CHARS)?;
    let taken = query_scalar("SELECT CONSTRAINT_TYPE FROM KEY_CONSTRAINTS WHERE CONSTRAINT_NAME = ? LIMIT 1");
    let taken: Option<i16> = taken.bind(&name).fetch_optional(conn).await?;
    match taken {
        None => Ok(name),
        Some(_) => Err(Error::already_exists(format!("constraint '{name}' already exists")).into()),
    }
}

/// The places of the columns that a foreign key refers to: they have to be a key, of the same types.
async fn referenced(
    conn: &mut Connection,
    parent: &Head,
    reference: &Reference,
    columns: &Columns,
    own: &[String],
) -> Result<Vec<(Option<i64>, i32)>> {
    let others = Columns::load(conn, parent).await?;
    let wanted = folded(&reference.columns);
    let found = places(parent, &others, &wanted)?;
    let sorted = |columns: &[String]| columns.iter().cloned().collect::<BTreeSet<_>>();
    let is_key = of_table(conn, parent.id, Side::Parent)
        .await?
        .iter()
        .any(|key| matches!(key.rule, Rule::PrimaryKey | Rule::Unique) && sorted(&key.columns) == sorted(&wanted));
    if !is_key {
        let message =
            format!("columns {} are no primary or unique key of table '{}'", wanted.join(", "), parent.full_name());
        return Err(Error::invalid_input(message).into());
    }
    for (own, wanted) in own.iter().zip(&wanted) {
        let (own_type, wanted_type) = (columns.type_of(own), others.type_of(wanted));
        if own_type != wanted_type {
            let message = format!("column '{own}' of type {own_type} refers to '{wanted}' of type {wanted_type}");
            return Err(Error::invalid_input(message).into());
        }
    }
    Ok(found)
}

/// Refuses a constraint that is about too few or too many columns.
fn check(constraint: &Constraint, own: &[String]) -> PublicResult<()> {
    let distinct: BTreeSet<&String> = own.iter().collect();
    let fits = distinct.len() == own.len()
        && match &constraint.rule {
            Rule::PrimaryKey | Rule::Unique => !own.is_empty(),
            Rule::ForeignKey(reference) => !own.is_empty() && own.len() == reference.columns.len(),
            Rule::NotNull | Rule::Default(_) => own.len() == 1,
            Rule::Check(_) => own.len() <= 1,
        };
    if fits {
        return Ok(());
    }
    let message = format!("a constraint of table '{}.{}' has the wrong columns", constraint.database, constraint.table);
    Err(Error::invalid_input(format!("{message}: {}", own.join(", "))))
}

fn places(head: &Head, columns: &Columns, names: &[String]) -> PublicResult<Vec<(Option<i64>, i32)>> {
    let place = |name: &String| {
        let missing = || Error::invalid_input(format!("table '{}' has no column '{name}'", head.full_name()));
        columns.place(name).ok_or_else(missing)
    };
    names.iter().map(place).collect()
}

fn folded(columns: &[String]) -> Vec<String> {
    columns.iter().map(|column| names::fold(column)).collect()
}

/// A rule of a foreign key in the metastore's 16 bits.
fn small(rule: Option<i32>) -> PublicResult<Option<i16>> {
    let too_large = |_| Error::invalid_input("the rule of a foreign key is no number of JDBC's");
    rule.map(i16::try_from).transpose().map_err(too_large)
}
