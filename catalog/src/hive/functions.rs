//! Functions of users.

use tereza_runtime::{Error, ErrorKind};
use tereza_thrift::call::Exceptions;
use tereza_thrift::hive::{
    self, AlreadyExistsException, Exception, GetFunctionsRequest, GetFunctionsResponse, InvalidObjectException,
    InvalidOperationException, NoSuchObjectException,
};

use super::pattern::Pattern;
use super::{Answer, Session, convert, databases, names, unless_gone};

impl Session {
    /// Names of the functions of a database that fit a pattern; none if there is no such database.
    pub(super) async fn function_names(
        &self,
        database: Option<String>,
        pattern: Option<String>,
    ) -> Answer<Vec<String>> {
        let database = names::database(database)?;
        let pattern = pattern.as_deref().map(Pattern::of_names);
        let mut found = unless_gone(self.store().functions(&database).await)?.unwrap_or_default();
        found.retain(|name| pattern.as_ref().is_none_or(|pattern| pattern.matches(name)));
        Ok(found)
    }

    /// Their names, or all of them.
    pub(super) async fn functions_of(&self, request: GetFunctionsRequest) -> Answer<GetFunctionsResponse> {
        names::check_catalog(request.catalog_name.as_deref())?;
        let database = Some(request.db_name);
        let names = self.function_names(database.clone(), request.pattern).await?;
        if request.return_names.unwrap_or(true) {
            return Ok(GetFunctionsResponse { function_names: Some(names), functions: None });
        }
        let mut functions = Vec::with_capacity(names.len());
        for name in names {
            match self.function(database.clone(), Some(name)).await {
                Ok(function) => functions.push(function),
                // One that was dropped since is not listed.
                Err(Exception::NoSuchObject(_)) => {}
                Err(other) => return Err(other),
            }
        }
        Ok(GetFunctionsResponse { function_names: None, functions: Some(functions) })
    }

    pub(super) async fn function(&self, database: Option<String>, name: Option<String>) -> Answer<hive::Function> {
        let said = said(&database, &name);
        let (database, name) = (names::database(database)?, names::object(name));
        let found = self.store().function(&database, &name).await;
        Ok(convert::function_to(found.map_err(|error| of_function(error, &said))?))
    }

    pub(super) async fn all_functions(&self) -> Answer<Vec<hive::Function>> {
        let mut found = Vec::new();
        for database in self.store().databases().await? {
            let names = unless_gone(self.store().functions(&database).await)?.unwrap_or_default();
            for name in names {
                found.extend(unless_gone(self.store().function(&database, &name).await)?.map(convert::function_to));
            }
        }
        Ok(found)
    }

    pub(super) async fn make_function(&self, function: hive::Function) -> Answer<()> {
        names::check_new_in(function.cat_name.as_deref())?;
        let database = names::database(function.db_name.clone())?;
        let name = names::object(function.function_name.clone());
        names::check_new(&name, "object")?;
        let parent = self.store().database(&database).await;
        parent.map_err(|error| databases::of_database(error, &database))?;
        let new = convert::function_from(database, name.clone(), function);
        if new.class_name.is_none() {
            return Err(InvalidObjectException::new("Function class name cannot be null").into());
        }
        self.store().create_function(&new).await.map_err(|error| match error.kind() {
            ErrorKind::AlreadyExists => AlreadyExistsException::new(format!("Function {name} already exists")).into(),
            ErrorKind::InvalidInput => InvalidObjectException::new(error.to_string()).into(),
            _ => Exception::from(error),
        })
    }

    pub(super) async fn change_function(
        &self,
        database: Option<String>,
        name: Option<String>,
        function: hive::Function,
    ) -> Answer<()> {
        let (database, name) = (names::database(database)?, names::object(name));
        let to_database = match &function.db_name {
            Some(name) => names::database(Some(name.clone()))?,
            None => database.clone(),
        };
        let to_name = function.function_name.as_deref().map_or_else(|| name.clone(), str::to_lowercase);
        names::check_new(&to_name, "object")
            .map_err(|exception| InvalidOperationException::new(exception.message()))?;
        if to_database != database {
            let parent = self.store().database(&to_database).await;
            parent.map_err(|error| InvalidOperationException::new(error.to_string()))?;
        }
        let new = convert::function_from(to_database, to_name, function);
        self.store().alter_function(&database, &name, &new).await.map_err(|error| match error.kind() {
            ErrorKind::NotFound => {
                InvalidOperationException::new(format!("function {database}.{name} doesn't exist")).into()
            }
            _ => Exception::from(error),
        })
    }

    pub(super) async fn remove_function(&self, database: Option<String>, name: Option<String>) -> Answer<()> {
        let said = said(&database, &name);
        let (database, name) = (names::database(database)?, names::object(name));
        let dropped = self.store().drop_function(&database, &name).await;
        dropped.map_err(|error| of_function(error, &said))
    }
}

/// A function as the client writes it: Flink and Spark look for their own spelling in what they are told.
fn said(database: &Option<String>, name: &Option<String>) -> String {
    let database = database.as_deref().unwrap_or_default();
    let database = database.rsplit_once('#').map_or(database, |(_, name)| name);
    format!("{database}.{}", name.as_deref().unwrap_or_default())
}

fn of_function(error: Error, said: &str) -> Exception {
    if error.kind() == ErrorKind::NotFound {
        NoSuchObjectException::new(format!("Function {said} does not exist")).into()
    } else {
        error.into()
    }
}
