//! CREATE TABLE with a connector.

use std::sync::Arc;

use tereza_runtime::{Error, ErrorKind, Result};

use super::kept;
use crate::flink::{CreateTable, StreamSource, StreamTable, to_parameters};
use crate::statement::parse::{Home, SchemaName, TableName, read_only};
use crate::statement::{Planned, Planner, ddl, errors};

/// Whether LIKE names the table of a stream.
pub(super) async fn is_like_stream(create: &CreateTable, planner: &Planner<'_>) -> Result<bool> {
    Ok(base(create, planner).await?.is_some())
}

/// The table that LIKE names, if it is a stream's.
async fn base(create: &CreateTable, planner: &Planner<'_>) -> Result<Option<StreamTable>> {
    let Some(like) = &create.like else { return Ok(None) };
    let name = planner.text.scope.stream_name(like.table.clone())?;
    if name.home() != Home::Tereza {
        return Ok(None);
    }
    match kept::find(planner.session, &name).await {
        // Whoever makes the table says that it is missing.
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        found => found,
    }
}

/// The definition is planned now, so that a wrong one is refused, and the types of its expressions are kept.
pub(super) async fn plan(create: CreateTable, planner: &Planner<'_>) -> Result<Planned> {
    let session = Arc::clone(planner.session);
    if create.query.is_some() {
        return Err(Error::unsupported("CREATE TABLE … AS with a connector")
            .with_hint("make the table with its columns, and INSERT INTO it"));
    }
    let name = planner.text.scope.stream_name(create.name.clone())?;
    match name.home() {
        Home::Tereza => {}
        Home::ReadOnly => return Err(read_only(&name.to_string(), "CREATE TABLE")),
        Home::Session => {
            return Err(Error::unsupported(format!("the table of a stream in catalog '{}'", name.catalog))
                .with_hint("USE tereza.default, or begin its name with that"));
        }
    }
    let definition = match (&create.like, base(&create, planner).await?) {
        (None, _) => create.table.clone(),
        (Some(like), Some(base)) => create.table.clone().like(&base, like)?,
        (Some(like), None) => {
            let name = planner.text.scope.stream_name(like.table.clone())?;
            // One that is missing is told first.
            errors::table(&session, &name).await?;
            return Err(Error::unsupported(format!("CREATE TABLE … LIKE {name}, which is no table of a stream")));
        }
    };
    let state = session.context.state();
    let planned = StreamSource::plan(&session.engine, name.to_string(), definition, None, &state)?;
    if let Some(streams) = session.engine.streams() {
        streams.check_table(&planned)?;
    }
    let definition = planned.typed_definition();
    let schema = SchemaName { catalog: name.catalog.clone(), schema: name.schema.clone() };
    errors::database(&session, &schema).await?;
    let CreateTable { temporary, if_not_exists, .. } = create;
    let parameters = to_parameters(&definition)?;
    Ok(Planned::command(async move {
        let made = if temporary {
            match session.catalogs().temporary_streams().add(&name.schema, &name.table, definition)? {
                true => Ok(()),
                false => Err(exists(&name)),
            }
        } else {
            ddl::create_with_parameters(&session, &name, parameters).await
        };
        match made {
            Err(error) if error.kind() == ErrorKind::AlreadyExists && if_not_exists => Ok(()),
            made => made,
        }
    }))
}

fn exists(name: &TableName) -> Error {
    Error::already_exists(format!("temporary table {name} exists already"))
}
