//! Statements that change names: schemas, tables, columns, partitions, properties.
//!
//! Files in reading order: this one (whose statement it is), `schema`, `table` (CREATE TABLE), `columns` and `properties`
//! (its parts), `as_select` (CREATE TABLE AS), `alter`, `partitions`, `drop`, and what they do it with: `change` (one
//! commit) and `files` (folders of tables).

mod alter;
mod as_select;
mod change;
mod columns;
mod drop;
mod files;
mod partitions;
mod properties;
mod schema;
mod table;

use tereza_runtime::Result;

pub(super) use change::{change, settle};
pub(super) use columns::data_type;
pub(super) use files::measure;
pub(super) use partitions::Spec;
pub(super) use properties::{is_credential, key, properties};
pub(super) use table::create_with_parameters;

use super::parse::{Home, Own, Reader, read_only};
use super::view::{CreateView, DropView};
use super::{Planned, Planner};

/// A statement that changes names.
pub(super) enum Ddl {
    CreateSchema(schema::CreateSchema),
    DropSchema(schema::DropSchema),
    AlterSchema(schema::AlterSchema),
    CreateTable(Box<table::CreateTable>),
    DropTable(drop::DropTable),
    Truncate(drop::Truncate),
    AlterTable(alter::AlterTable),
    Repair(partitions::Repair),
}

impl Ddl {
    /// Whether it may be done twice, or is one commit of the journal.
    pub(super) fn is_repeatable(&self) -> bool {
        match self {
            Self::CreateSchema(create) => create.if_not_exists,
            Self::DropSchema(drop) => drop.if_exists,
            Self::CreateTable(create) => create.is_repeatable(),
            Self::DropTable(drop) => drop.if_exists,
            Self::Truncate(_) | Self::Repair(_) => true,
            Self::AlterSchema(_) | Self::AlterTable(_) => false,
        }
    }

    pub(super) async fn plan(self, planner: &Planner<'_>) -> Result<Planned> {
        match self {
            Self::CreateSchema(create) => Ok(create.plan(planner)),
            Self::DropSchema(drop) => Ok(drop.plan(planner)),
            Self::AlterSchema(alter) => Ok(alter.plan(planner)),
            Self::CreateTable(create) => create.plan(planner).await,
            Self::DropTable(drop) => drop.plan(planner).await,
            Self::Truncate(truncate) => Ok(truncate.plan(planner)),
            Self::AlterTable(alter) => Ok(alter.plan(planner)),
            Self::Repair(repair) => Ok(repair.plan(planner)),
        }
    }
}

/// Reads a statement that begins with CREATE, DROP, ALTER, TRUNCATE or MSCK; `None` if it is DataFusion's.
pub(super) fn parse(reader: &mut Reader<'_>) -> Result<Option<Own>> {
    let ddl = match reader.take_one(&["CREATE", "DROP", "ALTER", "TRUNCATE", "MSCK"]) {
        Some("CREATE") => return create(reader),
        Some("DROP") => return drop_something(reader),
        Some("ALTER") => match reader.take_one(&["TABLE", "SCHEMA", "DATABASE"]) {
            Some("TABLE") => Some(Ddl::AlterTable(alter::AlterTable::parse(reader)?)),
            Some(_) => Some(Ddl::AlterSchema(schema::AlterSchema::parse(reader)?)),
            None => None,
        },
        Some("TRUNCATE") => drop::Truncate::parse(reader)?.map(Ddl::Truncate),
        Some("MSCK") => Some(Ddl::Repair(partitions::Repair::parse(reader)?)),
        _ => None,
    };
    Ok(ddl.map(|ddl| Own::Ddl(Box::new(ddl))))
}

fn create(reader: &mut Reader<'_>) -> Result<Option<Own>> {
    let or_replace = reader.take("OR REPLACE");
    // Temporary things are the session's, so DataFusion's.
    let external = reader.take("EXTERNAL");
    match reader.take_one(&["TABLE", "VIEW", "SCHEMA", "DATABASE"]) {
        Some("TABLE") => {
            let if_not_exists = reader.take("IF NOT EXISTS");
            let name = reader.table_name()?;
            match name.home() {
                Home::Session => Ok(None),
                Home::ReadOnly => Err(read_only(&name.to_string(), "CREATE TABLE")),
                Home::Tereza => {
                    let head = table::Head { name, external, if_not_exists, or_replace };
                    Ok(Some(Own::Ddl(Box::new(Ddl::CreateTable(Box::new(table::CreateTable::parse(reader, head)?))))))
                }
            }
        }
        Some("VIEW") if !external => {
            let if_not_exists = reader.take("IF NOT EXISTS");
            let name = reader.table_name()?;
            match name.home() {
                Home::Session => Ok(None),
                Home::ReadOnly => Err(read_only(&name.to_string(), "CREATE VIEW")),
                Home::Tereza => {
                    Ok(Some(Own::CreateView(Box::new(CreateView::parse(reader, name, or_replace, if_not_exists)?))))
                }
            }
        }
        Some(_) if !external && !or_replace => {
            let if_not_exists = reader.take("IF NOT EXISTS");
            let name = reader.schema_name()?;
            match name.home() {
                Home::Session => Ok(None),
                Home::ReadOnly => Err(read_only(&name.to_string(), "CREATE SCHEMA")),
                Home::Tereza => {
                    let create = schema::CreateSchema::parse(reader, name, if_not_exists)?;
                    Ok(Some(Own::Ddl(Box::new(Ddl::CreateSchema(create)))))
                }
            }
        }
        _ => Ok(None),
    }
}

fn drop_something(reader: &mut Reader<'_>) -> Result<Option<Own>> {
    match reader.take_one(&["TABLE", "VIEW", "SCHEMA", "DATABASE"]) {
        Some("TABLE") => Ok(Some(Own::Ddl(Box::new(Ddl::DropTable(drop::DropTable::parse(reader)?))))),
        Some("VIEW") => Ok(Some(Own::DropView(DropView::parse(reader)?))),
        Some(_) => {
            let if_exists = reader.take("IF EXISTS");
            let name = reader.schema_name()?;
            match name.home() {
                Home::Session => Ok(None),
                Home::ReadOnly => Err(read_only(&name.to_string(), "DROP SCHEMA")),
                Home::Tereza => {
                    let drop = schema::DropSchema::parse(reader, name, if_exists);
                    Ok(Some(Own::Ddl(Box::new(Ddl::DropSchema(drop)))))
                }
            }
        }
        None => Ok(None),
    }
}
