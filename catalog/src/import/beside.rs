//! What is kept beside tables: constraints, roles and privileges. A source may tell nothing of one of these, and a store keep
//! none: that is said once.

use std::collections::BTreeSet;
use std::{fmt, slice};

use futures::stream::{self, StreamExt as _};
use tereza_runtime::{Error, ErrorKind, Result};

use super::{Import, values_of};
use crate::model::{ADMIN_ROLE, Constraint, Grant, PUBLIC_ROLE, Principal, Securable, Table};

/// Things whose privileges are asked for at once.
const ASKED_AT_ONCE: usize = 4;
/// The parameter of tables whose partitions have privileges of their own, as Hive sets it.
const PARTITION_LEVEL: &str = "PARTITION_LEVEL_PRIVILEGE";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Constraints,
    Roles,
    Privileges,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Constraints => "constraints",
            Self::Roles => "roles",
            Self::Privileges => "privileges",
        })
    }
}

impl Import<'_> {
    /// Brings the constraints of a table, but for foreign keys.
    pub(super) async fn constraints(&mut self, table: &Table) -> Result<()> {
        if self.lacking.contains(&Kind::Constraints) {
            return Ok(());
        }
        let found = self.source.constraints(&table.database, &table.name).await;
        self.add_constraints(&table.database, &table.name, found).await
    }

    /// Brings the foreign keys of a database's tables. To be called when the tables that they refer to are there.
    pub(super) async fn foreign_keys(&mut self, database: &str) -> Result<()> {
        let there: BTreeSet<String> = match self.store.tables(database).await {
            Ok(there) => there.into_iter().map(|(name, _)| name).collect(),
            // It could not be made, which was said.
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        for table in self.source.tables(database).await?.into_iter().filter(|table| there.contains(table)) {
            if self.lacking.contains(&Kind::Constraints) {
                return Ok(());
            }
            let found = self.source.foreign_keys(database, &table).await;
            self.add_constraints(database, &table, found).await?;
        }
        Ok(())
    }

    async fn add_constraints(&mut self, database: &str, table: &str, found: Result<Vec<Constraint>>) -> Result<()> {
        let of_table = || format!("constraints of table {database}.{table}");
        let found = match found {
            Ok(found) if found.is_empty() => return Ok(()),
            Ok(found) => found,
            Err(error) => return self.refused(Kind::Constraints, of_table(), error),
        };
        let known = match self.store.constraints(database, table).await {
            Ok(known) => known,
            Err(error) => return self.refused(Kind::Constraints, of_table(), error),
        };
        for constraint in found {
            let what = format!("constraint {} of table {database}.{table}", constraint.name);
            match known.iter().find(|known| known.name.eq_ignore_ascii_case(&constraint.name)) {
                Some(known) if Constraint { name: constraint.name.clone(), ..known.clone() } == constraint => {}
                Some(_) => self.done.different.push(what),
                None => match self.store.add_constraints(slice::from_ref(&constraint)).await {
                    Ok(()) => self.done.constraints += 1,
                    Err(error) => self.refused(Kind::Constraints, what, error)?,
                },
            }
        }
        Ok(())
    }

    /// Brings all roles and who has them. Those that are always there come with who has them only.
    pub(super) async fn roles(&mut self) -> Result<()> {
        let of_all = || Kind::Roles.to_string();
        let found = match self.source.roles().await {
            Ok(found) => found,
            Err(error) => return self.refused(Kind::Roles, of_all(), error),
        };
        let known = match self.store.roles().await {
            Ok(known) => known,
            Err(error) => return self.refused(Kind::Roles, of_all(), error),
        };
        for role in found.iter().filter(|role| ![ADMIN_ROLE, PUBLIC_ROLE].contains(&role.name.as_str())) {
            let what = format!("role {}", role.name);
            match known.iter().find(|known| known.name == role.name) {
                Some(known) if role.owner.is_none() || role.owner == known.owner => {}
                Some(_) => self.done.different.push(what),
                None => match self.store.create_role(role).await {
                    Ok(()) => self.done.roles += 1,
                    Err(error) => self.problem(what, error)?,
                },
            }
        }
        // Everybody has `public`.
        for role in found.iter().filter(|role| role.name != PUBLIC_ROLE) {
            if let Err(error) = self.role_grants(&role.name).await {
                self.problem(format!("who has role {}", role.name), error)?;
            }
        }
        Ok(())
    }

    async fn role_grants(&mut self, role: &str) -> Result<()> {
        let found = self.source.role_grants(role).await?;
        let known = self.store.principals_in_role(role).await?;
        for grant in found {
            let what = format!("role {role} of {}", principal(&grant.to));
            match known.iter().find(|known| known.to == grant.to) {
                Some(known) if known.grant_option == grant.grant_option => {}
                Some(_) => self.done.different.push(what),
                None => match self.store.grant_role(&grant).await {
                    Ok(()) => self.done.role_grants += 1,
                    Err(error) => self.problem(what, error)?,
                },
            }
        }
        Ok(())
    }

    /// Brings the privileges on a table and on its columns.
    pub(super) async fn table_privileges(&mut self, table: &Table) -> Result<()> {
        let on = |column: Option<&str>| {
            let (database, table) = (table.database.clone(), table.name.clone());
            match column {
                None => Securable::Table { database, table },
                Some(column) => Securable::Column { database, table, partition: None, column: column.to_owned() },
            }
        };
        self.privileges([on(None)].into_iter().chain(columns(table).map(|name| on(Some(name)))).collect()).await
    }

    /// Brings the privileges on partitions and on their columns, where partitions have any.
    pub(super) async fn partition_privileges(&mut self, table: &Table, names: &[String]) -> Result<()> {
        if !table.parameters.get(PARTITION_LEVEL).is_some_and(|value| value.eq_ignore_ascii_case("true")) {
            return Ok(());
        }
        for values in names.iter().filter_map(|name| values_of(name)) {
            let (database, name) = (&table.database, &table.name);
            let column = |column: &str| Securable::Column {
                database: database.clone(),
                table: name.clone(),
                partition: Some(values.clone()),
                column: column.to_owned(),
            };
            let mut on: Vec<Securable> = columns(table).map(column).collect();
            on.push(Securable::Partition { database: database.clone(), table: name.clone(), values: values.clone() });
            self.privileges(on).await?;
        }
        Ok(())
    }

    /// Brings the privileges on these.
    pub(super) async fn privileges(&mut self, on: Vec<Securable>) -> Result<()> {
        if self.lacking.contains(&Kind::Privileges) {
            return Ok(());
        }
        let source = self.source;
        let ask = |on: Securable| async move {
            let found = source.privileges(&on).await;
            (on, found)
        };
        let mut asked = stream::iter(on).map(ask).buffered(ASKED_AT_ONCE);
        while let Some((on, found)) = asked.next().await {
            let outcome = match found {
                Ok(found) => self.grant(&on, found).await,
                Err(error) => Err(error),
            };
            if let Err(error) = outcome {
                self.refused(Kind::Privileges, format!("privileges on {}", shown(&on)), error)?;
            }
            if self.lacking.contains(&Kind::Privileges) {
                return Ok(());
            }
        }
        Ok(())
    }

    async fn grant(&mut self, on: &Securable, found: Vec<Grant>) -> Result<()> {
        if found.is_empty() {
            return Ok(());
        }
        let known = self.store.privileges(on, None).await?;
        let mut new = Vec::new();
        for grant in found {
            let is_same = |known: &&Grant| {
                known.to == grant.to && known.privilege == grant.privilege && known.grantor == grant.grantor
            };
            match known.iter().find(is_same) {
                Some(known) if known.grant_option == grant.grant_option => {}
                Some(_) => self.done.different.push(named(&grant)),
                None => new.push(grant),
            }
        }
        match self.store.grant_privileges(&new).await {
            Ok(()) => self.done.privileges += new.len(),
            Err(error) if matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Unsupported) => return Err(error),
            // One by one, so that those that can be given are.
            Err(_) => {
                for grant in new {
                    match self.store.grant_privileges(slice::from_ref(&grant)).await {
                        Ok(()) => self.done.privileges += 1,
                        Err(error) => self.problem(named(&grant), error)?,
                    }
                }
            }
        }
        Ok(())
    }

    /// [`Import::problem`]; where one side has nothing of the kind, that alone, and it is asked for no more.
    fn refused(&mut self, kind: Kind, what: String, error: Error) -> Result<()> {
        if error.kind() != ErrorKind::Unsupported {
            return self.problem(what, error);
        }
        self.lacking.push(kind);
        self.problem(kind.to_string(), error)
    }
}

fn columns(table: &Table) -> impl Iterator<Item = &str> {
    table.storage.columns.iter().chain(&table.partition_keys).map(|column| column.name.as_str())
}

fn named(grant: &Grant) -> String {
    format!("privilege {} of {} on {}", grant.privilege, principal(&grant.to), shown(&grant.on))
}

fn principal(principal: &Principal) -> String {
    format!("{} {}", principal.kind.as_str().to_lowercase(), principal.name)
}

fn shown(on: &Securable) -> String {
    match on {
        Securable::Everything => "everything".to_owned(),
        Securable::Database { database } => format!("database {database}"),
        Securable::Table { database, table } => format!("table {database}.{table}"),
        Securable::Partition { database, table, values } => format!("partition {values:?} of table {database}.{table}"),
        Securable::Column { database, table, partition: None, column } => {
            format!("column {column} of table {database}.{table}")
        }
        Securable::Column { database, table, partition: Some(values), column } => {
            format!("column {column} of partition {values:?} of table {database}.{table}")
        }
    }
}
