//! A store as a source.

use async_trait::async_trait;
use tereza_runtime::Result;

use super::{PartitionStatistics, Source};
use crate::Store;
use crate::model::{
    ColumnStatistics, Constraint, Database, Function, Grant, Partition, Role, RoleGrant, Rule, Securable, Table,
};

/// A store as what is copied: the database of a metastore, opened to read ([`mysql::Settings::read_only`]).
///
/// [`mysql::Settings::read_only`]: crate::store::mysql::Settings::read_only
#[derive(Debug)]
pub struct FromStore<S>(pub S);

#[async_trait]
impl<S: Store> Source for FromStore<S> {
    async fn databases(&self) -> Result<Vec<String>> {
        self.0.databases().await
    }

    async fn database(&self, name: &str) -> Result<Database> {
        self.0.database(name).await
    }

    async fn tables(&self, database: &str) -> Result<Vec<String>> {
        Ok(self.0.tables(database).await?.into_iter().map(|(name, _)| name).collect())
    }

    async fn tables_by_names(&self, database: &str, names: &[String]) -> Result<Vec<Table>> {
        self.0.tables_by_names(database, names).await
    }

    async fn partition_names(&self, database: &str, table: &str) -> Result<Vec<String>> {
        self.0.partition_names(database, table).await
    }

    async fn partitions(&self, database: &str, table: &str, names: &[String]) -> Result<Vec<Partition>> {
        self.0.partitions_by_names(database, table, names).await
    }

    async fn table_statistics(&self, table: &Table, columns: &[String]) -> Result<Vec<ColumnStatistics>> {
        let known = self.0.column_statistics(&table.database, &table.name, None).await?;
        Ok(known.into_iter().filter(|column| columns.contains(&column.column)).collect())
    }

    async fn partition_statistics(
        &self,
        table: &Table,
        names: &[String],
        columns: &[String],
    ) -> Result<PartitionStatistics> {
        let known = self.0.partition_statistics(&table.database, &table.name, names).await?;
        let wanted = |(name, mut of): (String, Vec<ColumnStatistics>)| {
            of.retain(|column| columns.contains(&column.column));
            (name, of)
        };
        Ok(known.into_iter().map(wanted).collect())
    }

    async fn functions(&self, database: &str) -> Result<Vec<Function>> {
        let mut functions = Vec::new();
        for name in self.0.functions(database).await? {
            functions.push(self.0.function(database, &name).await?);
        }
        Ok(functions)
    }

    async fn constraints(&self, database: &str, table: &str) -> Result<Vec<Constraint>> {
        let (_, others) = self.parted(database, table).await?;
        Ok(others)
    }

    async fn foreign_keys(&self, database: &str, table: &str) -> Result<Vec<Constraint>> {
        let (foreign, _) = self.parted(database, table).await?;
        Ok(foreign)
    }

    async fn roles(&self) -> Result<Vec<Role>> {
        self.0.roles().await
    }

    async fn role_grants(&self, role: &str) -> Result<Vec<RoleGrant>> {
        self.0.principals_in_role(role).await
    }

    async fn privileges(&self, on: &Securable) -> Result<Vec<Grant>> {
        self.0.privileges(on, None).await
    }
}

impl<S: Store> FromStore<S> {
    /// Foreign keys of a table, and its other constraints.
    async fn parted(&self, database: &str, table: &str) -> Result<(Vec<Constraint>, Vec<Constraint>)> {
        let found = self.0.constraints(database, table).await?;
        Ok(found.into_iter().partition(|constraint| matches!(constraint.rule, Rule::ForeignKey(_))))
    }
}
