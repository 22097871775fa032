//! Constraints of a metastore's tables. A version that has no method for one kind has no constraints of that kind.

use tereza_runtime::Result;
use tereza_thrift::call::Method;
use tereza_thrift::client::CallError;
use tereza_thrift::hive::{
    CheckConstraintsRequest, DefaultConstraintsRequest, Exception, ForeignKeysRequest, GetCheckConstraintsArgs,
    GetDefaultConstraintsArgs, GetForeignKeysArgs, GetNotNullConstraintsArgs, GetPrimaryKeysArgs,
    GetUniqueConstraintsArgs, NotNullConstraintsRequest, PrimaryKeysRequest, SQLAllTableConstraints,
    UniqueConstraintsRequest,
};

use super::super::constraints::from_all;
use super::super::names::CATALOG;
use super::{Remote, explain, failed, is_unknown_method};
use crate::model::Constraint;

/// The request for the constraints of one kind.
macro_rules! request {
    ($args:ident, $request:ident, $database:ident, $table:ident) => {
        $args {
            request: Some($request {
                cat_name: CATALOG.to_owned().into(),
                db_name: $database.to_owned(),
                tbl_name: $table.to_owned(),
                ..$request::default()
            }),
        }
    };
}

impl Remote {
    /// All of a table but foreign keys.
    pub(super) async fn table_constraints(&self, database: &str, table: &str) -> Result<Vec<Constraint>> {
        let primary = self.ask_if_known(&request!(GetPrimaryKeysArgs, PrimaryKeysRequest, database, table)).await?;
        let unique =
            self.ask_if_known(&request!(GetUniqueConstraintsArgs, UniqueConstraintsRequest, database, table)).await?;
        let not_null =
            self.ask_if_known(&request!(GetNotNullConstraintsArgs, NotNullConstraintsRequest, database, table)).await?;
        let default =
            self.ask_if_known(&request!(GetDefaultConstraintsArgs, DefaultConstraintsRequest, database, table)).await?;
        let check =
            self.ask_if_known(&request!(GetCheckConstraintsArgs, CheckConstraintsRequest, database, table)).await?;
        let mut all = SQLAllTableConstraints {
            primary_keys: primary.map(|found| found.primary_keys),
            unique_constraints: unique.map(|found| found.unique_constraints),
            not_null_constraints: not_null.map(|found| found.not_null_constraints),
            default_constraints: default.map(|found| found.default_constraints),
            check_constraints: check.map(|found| found.check_constraints),
            ..SQLAllTableConstraints::default()
        };
        // Rows of one key stand together.
        all.primary_keys.iter_mut().for_each(|rows| rows.sort_by_key(|row| (row.pk_name.clone(), row.key_seq)));
        all.unique_constraints.iter_mut().for_each(|rows| rows.sort_by_key(|row| (row.uk_name.clone(), row.key_seq)));
        from_all(all).map_err(explain)
    }

    /// Foreign keys of a table.
    pub(super) async fn table_foreign_keys(&self, database: &str, table: &str) -> Result<Vec<Constraint>> {
        let request = ForeignKeysRequest {
            foreign_db_name: Some(database.to_owned()),
            foreign_tbl_name: Some(table.to_owned()),
            cat_name: Some(CATALOG.to_owned()),
            ..ForeignKeysRequest::default()
        };
        let found = self.ask_if_known(&GetForeignKeysArgs { request: Some(request) }).await?;
        let mut foreign_keys = found.map(|found| found.foreign_keys);
        foreign_keys.iter_mut().for_each(|rows| rows.sort_by_key(|row| (row.fk_name.clone(), row.key_seq)));
        from_all(SQLAllTableConstraints { foreign_keys, ..Default::default() }).map_err(explain)
    }

    /// Nothing where the metastore does not have the method.
    async fn ask_if_known<M: Method<Exception = Exception> + Sync>(&self, args: &M) -> Result<Option<M::Reply>> {
        match self.ask(args).await {
            Ok(reply) => Ok(Some(reply)),
            Err(CallError::Exception(exception)) if is_unknown_method(&exception) => Ok(None),
            Err(error) => Err(failed(error)),
        }
    }
}
