//! Changing a metastore: each function is one call, which is done whole or not at all.
//!
//! Where nothing was said about the files of what is made or dropped, they are the metastore's to make and to remove.
//! It is asked not to count files (`DO_NOT_UPDATE_STATS`): whoever writes them says how many there are.

use tereza_thrift::hive::{
    self, AddPartitionsReqArgs, AddPartitionsRequest, AlterDatabaseArgs, AlterFunctionArgs,
    AlterPartitionsWithEnvironmentContextArgs, AlterTableWithEnvironmentContextArgs, ColumnStatisticsDesc,
    CreateDatabaseArgs, CreateFunctionArgs, CreateTableWithEnvironmentContextArgs, DeletePartitionColumnStatisticsArgs,
    DeleteTableColumnStatisticsArgs, DropDatabaseArgs, DropFunctionArgs, DropPartitionsReqArgs, DropPartitionsRequest,
    DropTableWithEnvironmentContextArgs, EnvironmentContext, RenamePartitionArgs, RequestPartsSpec,
    UpdatePartitionColumnStatisticsArgs, UpdateTableColumnStatisticsArgs,
};

use super::super::convert::{self, ColumnLists};
use super::super::statistics;
use super::{Failed, Remote};
use crate::model::{ColumnStatistics, Database, Function, Partition, Table, TableKind};

type Told<T = ()> = Result<T, Failed>;

impl Remote {
    pub(crate) async fn create_database(&self, database: &Database) -> Told {
        let args = CreateDatabaseArgs { database: Some(convert::database_to(database.clone())) };
        self.tell(&args).await
    }

    pub(crate) async fn alter_database(&self, name: &str, database: &Database) -> Told {
        let db = Some(convert::database_to(database.clone()));
        self.tell(&AlterDatabaseArgs { dbname: text(name), db }).await
    }

    pub(crate) async fn drop_database(&self, name: &str, with_files: bool, cascade: bool) -> Told {
        let args = DropDatabaseArgs { name: text(name), delete_data: Some(with_files), cascade: Some(cascade) };
        self.tell(&args).await
    }

    pub(crate) async fn create_table(&self, table: &Table) -> Told {
        let tbl = Some(convert::table_to(with_mark(table)));
        let environment_context = environment(&[]);
        self.tell(&CreateTableWithEnvironmentContextArgs { tbl, environment_context }).await
    }

    /// With `cascade` all partitions get the table's columns.
    pub(crate) async fn alter_table(&self, database: &str, name: &str, table: &Table, cascade: bool) -> Told {
        let args = AlterTableWithEnvironmentContextArgs {
            dbname: text(database),
            tbl_name: text(name),
            new_tbl: Some(convert::table_to(with_mark(table))),
            environment_context: environment(if cascade { &["CASCADE"] } else { &[] }),
        };
        self.tell(&args).await
    }

    pub(crate) async fn drop_table(&self, database: &str, name: &str, with_files: bool) -> Told {
        let args = DropTableWithEnvironmentContextArgs {
            dbname: text(database),
            name: text(name),
            delete_data: Some(with_files),
            environment_context: environment(&[]),
        };
        self.tell(&args).await
    }

    /// Adds all, or with `if_not_exists` those that are new.
    pub(crate) async fn add_partitions(
        &self,
        database: &str,
        table: &str,
        partitions: &[Partition],
        if_not_exists: bool,
    ) -> Told {
        let request = AddPartitionsRequest {
            db_name: database.to_owned(),
            tbl_name: table.to_owned(),
            parts: converted(database, table, partitions),
            if_not_exists,
            need_result: Some(false),
            ..AddPartitionsRequest::default()
        };
        self.tell(&AddPartitionsReqArgs { request: Some(request) }).await.map(|_| ())
    }

    pub(crate) async fn alter_partitions(&self, database: &str, table: &str, partitions: &[Partition]) -> Told {
        let args = AlterPartitionsWithEnvironmentContextArgs {
            db_name: text(database),
            tbl_name: text(table),
            new_parts: Some(converted(database, table, partitions)),
            environment_context: environment(&[]),
        };
        self.tell(&args).await
    }

    pub(crate) async fn rename_partition(
        &self,
        database: &str,
        table: &str,
        values: &[String],
        partition: &Partition,
    ) -> Told {
        let args = RenamePartitionArgs {
            db_name: text(database),
            tbl_name: text(table),
            part_vals: Some(values.to_vec()),
            new_part: converted(database, table, std::slice::from_ref(partition)).pop(),
        };
        self.tell(&args).await
    }

    /// Drops those of the partitions that are there.
    pub(crate) async fn drop_partitions(
        &self,
        database: &str,
        table: &str,
        names: &[String],
        with_files: bool,
    ) -> Told {
        let req = DropPartitionsRequest {
            db_name: database.to_owned(),
            tbl_name: table.to_owned(),
            parts: RequestPartsSpec::Names(names.to_vec()),
            delete_data: Some(with_files),
            if_exists: Some(true),
            need_result: Some(false),
            ..DropPartitionsRequest::default()
        };
        self.tell(&DropPartitionsReqArgs { req: Some(req) }).await.map(|_| ())
    }

    /// Of the table, or of the partition with the name.
    pub(crate) async fn set_statistics(
        &self,
        database: &str,
        table: &str,
        partition: Option<&str>,
        columns: &[ColumnStatistics],
        now_s: i64,
    ) -> Told {
        let stats_desc = ColumnStatisticsDesc {
            is_tbl_level: partition.is_none(),
            db_name: database.to_owned(),
            table_name: table.to_owned(),
            part_name: partition.map(str::to_owned),
            last_analyzed: Some(now_s),
            ..ColumnStatisticsDesc::default()
        };
        let stats_obj = columns.iter().cloned().map(statistics::to_object).collect();
        let stats_obj = hive::ColumnStatistics { stats_desc, stats_obj, ..hive::ColumnStatistics::default() };
        let stats_obj = Some(Box::new(stats_obj));
        match partition {
            None => self.tell(&UpdateTableColumnStatisticsArgs { stats_obj }).await.map(|_| ()),
            Some(_) => self.tell(&UpdatePartitionColumnStatisticsArgs { stats_obj }).await.map(|_| ()),
        }
    }

    /// Those of one column of the table, or of the partition with the name.
    pub(crate) async fn delete_statistics(
        &self,
        database: &str,
        table: &str,
        partition: Option<&str>,
        column: &str,
    ) -> Told {
        let (db_name, tbl_name, col_name) = (text(database), text(table), text(column));
        match partition {
            None => {
                let args = DeleteTableColumnStatisticsArgs { db_name, tbl_name, col_name, ..Default::default() };
                self.tell(&args).await.map(|_| ())
            }
            Some(name) => {
                let part_name = text(name);
                let args = DeletePartitionColumnStatisticsArgs {
                    db_name,
                    tbl_name,
                    part_name,
                    col_name,
                    ..Default::default()
                };
                self.tell(&args).await.map(|_| ())
            }
        }
    }

    pub(crate) async fn create_function(&self, function: &Function) -> Told {
        self.tell(&CreateFunctionArgs { func: Some(convert::function_to(function.clone())) }).await
    }

    pub(crate) async fn alter_function(&self, database: &str, name: &str, function: &Function) -> Told {
        let new_func = Some(convert::function_to(function.clone()));
        self.tell(&AlterFunctionArgs { db_name: text(database), func_name: text(name), new_func }).await
    }

    pub(crate) async fn drop_function(&self, database: &str, name: &str) -> Told {
        self.tell(&DropFunctionArgs { db_name: text(database), func_name: text(name) }).await
    }
}

fn text(text: &str) -> Option<String> {
    Some(text.to_owned())
}

fn environment(demands: &[&str]) -> Option<EnvironmentContext> {
    let demands = demands.iter().chain(&["DO_NOT_UPDATE_STATS"]);
    let properties = demands.map(|demand| ((*demand).to_owned(), "true".to_owned())).collect();
    Some(EnvironmentContext { properties: Some(properties) })
}

fn converted(database: &str, table: &str, partitions: &[Partition]) -> Vec<hive::Partition> {
    let mut lists = ColumnLists::default();
    let one = |partition: &Partition| convert::partition_to(database, table, partition.clone(), &mut lists);
    partitions.iter().map(one).collect()
}

/// A metastore tells external tables by their parameter: without it, it makes a managed one.
fn with_mark(table: &Table) -> Table {
    let mut table = table.clone();
    if table.kind == TableKind::External {
        table.parameters.entry(convert::EXTERNAL.to_owned()).or_insert_with(|| "TRUE".to_owned());
    }
    table
}
