//! The methods of the interface, each in a line or a few: what they do is in the files of their nouns. Those of Hive 4 that
//! end in `_req` are the older ones with their arguments in a struct. A method that is not here is answered "unknown
//! method".

use std::collections::BTreeMap;

use tereza_runtime::memory;
use tereza_thrift::codec::{Listed, Texts};
use tereza_thrift::hive::{self, Exception, HiveMetastore, MetaException};

use super::alter_table::Demands;
use super::convert;
use super::names::{self, CATALOG};
use super::settings::{config_value, meta_conf};
use super::{Answer, Session, limit};

/// What every Hive Metastore of versions 2 and 3 says of itself.
const VERSION: &str = "3.0";
/// The memory of an answer as large as this goes back to the system when it is sent: there are few such.
const GIVEN_BACK_FROM_BYTES: usize = 16 << 20;

/// Methods that are whole in the file of their noun: the method of the interface, and which one answers it.
macro_rules! answered_by {
    ($($method:ident($args:ident) -> $reply:ty = $own:ident;)*) => {
        $(async fn $method(&self, args: hive::$args) -> Answer<$reply> {
            self.$own(args).await
        })*
    };
}

impl HiveMetastore for Session {
    fn answered(&self) {
        if self.held.release() >= GIVEN_BACK_FROM_BYTES {
            memory::give_back();
        }
    }

    async fn get_name(&self) -> Answer<String> {
        Ok("Tereza".to_owned())
    }
    async fn get_version(&self) -> Answer<String> {
        Ok(VERSION.to_owned())
    }
    async fn get_status(&self) -> Answer<hive::FbStatus> {
        Ok(hive::FbStatus::ALIVE)
    }
    async fn get_status_details(&self) -> Answer<String> {
        Ok(String::new())
    }
    async fn get_counters(&self) -> Answer<BTreeMap<String, i64>> {
        Ok(BTreeMap::new())
    }
    async fn get_counter(&self, _: hive::GetCounterArgs) -> Answer<i64> {
        Ok(0)
    }
    async fn set_option(&self, _: hive::SetOptionArgs) -> Answer<()> {
        Ok(())
    }
    async fn get_option(&self, _: hive::GetOptionArgs) -> Answer<String> {
        Ok(String::new())
    }
    async fn get_options(&self) -> Answer<BTreeMap<String, String>> {
        Ok(BTreeMap::new())
    }
    async fn get_cpu_profile(&self, _: hive::GetCpuProfileArgs) -> Answer<String> {
        Ok(String::new())
    }
    async fn alive_since(&self) -> Answer<i64> {
        Ok(self.shared.started_s)
    }

    // ---- the connection

    async fn set_ugi(&self, args: hive::SetUgiArgs) -> Answer<Vec<String>> {
        *self.user.lock() = args.user_name;
        Ok(args.group_names.unwrap_or_default())
    }
    async fn get_config_value(&self, args: hive::GetConfigValueArgs) -> Answer<String> {
        config_value(args.name, args.default_value)
    }
    async fn get_meta_conf(&self, args: hive::GetMetaConfArgs) -> Answer<String> {
        meta_conf(args.key).map(str::to_owned)
    }
    async fn set_meta_conf(&self, args: hive::SetMetaConfArgs) -> Answer<()> {
        meta_conf(args.key).map(drop)
    }
    async fn flush_cache(&self) -> Answer<()> {
        Ok(())
    }

    // ---- catalogs and databases

    async fn get_catalogs(&self) -> Answer<hive::GetCatalogsResponse> {
        Ok(hive::GetCatalogsResponse { names: Some(vec![CATALOG.to_owned()]) })
    }
    async fn get_catalog(&self, args: hive::GetCatalogArgs) -> Answer<hive::GetCatalogResponse> {
        let name = args.cat_name.unwrap_or_default().name;
        names::check_catalog(name.as_deref())?;
        let catalog = hive::Catalog {
            name: Some(CATALOG.to_owned()),
            location_uri: Some(self.shared.settings.warehouse.clone()),
            ..hive::Catalog::default()
        };
        Ok(hive::GetCatalogResponse { catalog: Some(catalog) })
    }
    async fn get_all_databases(&self) -> Answer<Vec<String>> {
        self.databases(None).await
    }
    async fn get_databases(&self, args: hive::GetDatabasesArgs) -> Answer<Vec<String>> {
        self.databases(args.pattern).await
    }
    async fn get_databases_req(&self, args: hive::GetDatabasesReqArgs) -> Answer<hive::GetDatabaseObjectsResponse> {
        let request = args.request.unwrap_or_default();
        names::check_catalog(request.catalog_name.as_deref())?;
        let mut databases = Vec::new();
        for name in self.databases(request.pattern).await? {
            match self.database(Some(name)).await {
                Ok(database) => databases.push(database),
                // One that was dropped since is not listed.
                Err(Exception::NoSuchObject(_)) => {}
                Err(other) => return Err(other),
            }
        }
        Ok(hive::GetDatabaseObjectsResponse { databases })
    }
    async fn get_database(&self, args: hive::GetDatabaseArgs) -> Answer<hive::Database> {
        self.database(args.name).await
    }
    async fn get_database_req(&self, args: hive::GetDatabaseReqArgs) -> Answer<hive::Database> {
        let request = args.request.unwrap_or_default();
        names::check_catalog(request.catalog_name.as_deref())?;
        self.database(request.name).await
    }
    async fn create_database(&self, args: hive::CreateDatabaseArgs) -> Answer<()> {
        self.make_database(args.database.unwrap_or_default()).await
    }
    async fn create_database_req(&self, args: hive::CreateDatabaseReqArgs) -> Answer<()> {
        let request = args.create_database_request.unwrap_or_default();
        self.make_database(convert::new_database(request)).await
    }
    async fn alter_database(&self, args: hive::AlterDatabaseArgs) -> Answer<()> {
        let new = args.db.ok_or_else(|| MetaException::new("the new database is missing"))?;
        self.change_database(args.dbname, new).await
    }
    async fn alter_database_req(&self, args: hive::AlterDatabaseReqArgs) -> Answer<()> {
        let request = args.alter_db_req.unwrap_or_default();
        self.change_database(Some(request.old_db_name), request.new_db).await
    }
    async fn drop_database(&self, args: hive::DropDatabaseArgs) -> Answer<()> {
        self.remove_database(args.name, args.delete_data.unwrap_or_default(), args.cascade.unwrap_or_default()).await
    }
    async fn drop_database_req(&self, args: hive::DropDatabaseReqArgs) -> Answer<()> {
        let request = args.req.unwrap_or_default();
        names::check_catalog(request.catalog_name.as_deref())?;
        match self.remove_database(Some(request.name), request.delete_data, request.cascade).await {
            Err(Exception::NoSuchObject(_)) if request.ignore_unknown_db => Ok(()),
            dropped => dropped,
        }
    }

    // ---- tables

    async fn get_all_tables(&self, args: hive::GetAllTablesArgs) -> Answer<Vec<String>> {
        self.table_names(args.db_name, None, None).await
    }
    async fn get_tables(&self, args: hive::GetTablesArgs) -> Answer<Vec<String>> {
        self.table_names(args.db_name, args.pattern, None).await
    }
    async fn get_tables_by_type(&self, args: hive::GetTablesByTypeArgs) -> Answer<Vec<String>> {
        self.table_names(args.db_name, args.pattern, args.table_type).await
    }
    async fn get_table_meta(&self, args: hive::GetTableMetaArgs) -> Answer<Vec<hive::TableMeta>> {
        self.table_meta(args.db_patterns, args.tbl_patterns, args.tbl_types).await
    }
    async fn get_tables_ext(&self, args: hive::GetTablesExtArgs) -> Answer<Vec<hive::ExtendedTableInfo>> {
        self.tables_ext(args.req.unwrap_or_default()).await
    }
    async fn get_table_names_by_filter(&self, args: hive::GetTableNamesByFilterArgs) -> Answer<Vec<String>> {
        self.table_names_by_filter(args.dbname, args.filter, args.max_tables).await
    }
    async fn get_table(&self, args: hive::GetTableArgs) -> Answer<hive::Table> {
        self.get_one_table(args.dbname, args.tbl_name).await
    }
    async fn get_table_req(&self, args: hive::GetTableReqArgs) -> Answer<hive::GetTableResult> {
        let table = self.get_table_of(args.req.unwrap_or_default()).await?;
        Ok(hive::GetTableResult { table, ..hive::GetTableResult::default() })
    }
    async fn get_table_objects_by_name(&self, args: hive::GetTableObjectsByNameArgs) -> Answer<Vec<hive::Table>> {
        self.tables_by_name(args.dbname, args.tbl_names).await
    }
    async fn get_table_objects_by_name_req(
        &self,
        args: hive::GetTableObjectsByNameReqArgs,
    ) -> Answer<hive::GetTablesResult> {
        let request = args.req.unwrap_or_default();
        names::check_catalog(request.cat_name.as_deref())?;
        let names = match request.tables_pattern {
            Some(pattern) if request.tbl_names.is_none() => {
                Some(self.table_names(Some(request.db_name.clone()), Some(pattern), None).await?)
            }
            _ => request.tbl_names,
        };
        let tables = self.tables_by_name(Some(request.db_name), names).await?;
        Ok(hive::GetTablesResult { tables })
    }
    async fn get_fields(&self, args: hive::GetFieldsArgs) -> Answer<Vec<hive::FieldSchema>> {
        self.fields(args.db_name, args.table_name, false).await
    }
    async fn get_fields_req(&self, args: hive::GetFieldsReqArgs) -> Answer<hive::GetFieldsResponse> {
        let request = args.req.unwrap_or_default();
        names::check_catalog(request.cat_name.as_deref())?;
        let fields = self.fields(Some(request.db_name), Some(request.tbl_name), false).await?;
        Ok(hive::GetFieldsResponse { fields })
    }
    async fn get_fields_with_environment_context(
        &self,
        args: hive::GetFieldsWithEnvironmentContextArgs,
    ) -> Answer<Vec<hive::FieldSchema>> {
        self.fields(args.db_name, args.table_name, false).await
    }
    async fn get_schema(&self, args: hive::GetSchemaArgs) -> Answer<Vec<hive::FieldSchema>> {
        self.fields(args.db_name, args.table_name, true).await
    }
    async fn get_schema_req(&self, args: hive::GetSchemaReqArgs) -> Answer<hive::GetSchemaResponse> {
        let request = args.req.unwrap_or_default();
        names::check_catalog(request.cat_name.as_deref())?;
        let fields = self.fields(Some(request.db_name), Some(request.tbl_name), true).await?;
        Ok(hive::GetSchemaResponse { fields })
    }
    async fn get_schema_with_environment_context(
        &self,
        args: hive::GetSchemaWithEnvironmentContextArgs,
    ) -> Answer<Vec<hive::FieldSchema>> {
        self.fields(args.db_name, args.table_name, true).await
    }
    async fn create_table(&self, args: hive::CreateTableArgs) -> Answer<()> {
        self.make_table(args.tbl.unwrap_or_default(), &[]).await
    }
    async fn create_table_with_environment_context(
        &self,
        args: hive::CreateTableWithEnvironmentContextArgs,
    ) -> Answer<()> {
        self.make_table(args.tbl.unwrap_or_default(), &[]).await
    }
    async fn create_table_with_constraints(&self, args: hive::CreateTableWithConstraintsArgs) -> Answer<()> {
        self.make_table_as(hive::CreateTableRequest {
            table: args.tbl.unwrap_or_default(),
            primary_keys: args.primary_keys,
            foreign_keys: args.foreign_keys,
            unique_constraints: args.unique_constraints,
            not_null_constraints: args.not_null_constraints,
            default_constraints: args.default_constraints,
            check_constraints: args.check_constraints,
            ..hive::CreateTableRequest::default()
        })
        .await
    }
    async fn create_table_req(&self, args: hive::CreateTableReqArgs) -> Answer<()> {
        self.make_table_as(args.request.unwrap_or_default()).await
    }
    async fn alter_table(&self, args: hive::AlterTableArgs) -> Answer<()> {
        self.change_table(args.dbname, args.tbl_name, args.new_tbl, Demands::default()).await
    }
    async fn alter_table_with_environment_context(
        &self,
        args: hive::AlterTableWithEnvironmentContextArgs,
    ) -> Answer<()> {
        let demands = Demands::of(args.environment_context);
        self.change_table(args.dbname, args.tbl_name, args.new_tbl, demands).await
    }
    async fn alter_table_req(&self, args: hive::AlterTableReqArgs) -> Answer<hive::AlterTableResponse> {
        self.change_table_of(args.req.unwrap_or_default()).await?;
        Ok(hive::AlterTableResponse {})
    }
    async fn drop_table(&self, args: hive::DropTableArgs) -> Answer<()> {
        self.remove_table(args.dbname, args.name, args.delete_data.unwrap_or_default()).await
    }
    async fn drop_table_with_environment_context(&self, args: hive::DropTableWithEnvironmentContextArgs) -> Answer<()> {
        self.remove_table(args.dbname, args.name, args.delete_data.unwrap_or_default()).await
    }
    async fn drop_table_req(&self, args: hive::DropTableReqArgs) -> Answer<()> {
        let request = args.drop_table_req.unwrap_or_default();
        names::check_catalog(request.catalog_name.as_deref())?;
        self.remove_table(Some(request.db_name), Some(request.table_name), request.delete_data.unwrap_or_default())
            .await
    }

    // ---- partitions, found

    async fn get_partition(&self, args: hive::GetPartitionArgs) -> Answer<hive::Partition> {
        self.partition(args.db_name, args.tbl_name, args.part_vals).await
    }
    async fn get_partition_with_auth(&self, args: hive::GetPartitionWithAuthArgs) -> Answer<hive::Partition> {
        self.partition(args.db_name, args.tbl_name, args.part_vals).await
    }
    async fn get_partition_req(&self, args: hive::GetPartitionReqArgs) -> Answer<hive::GetPartitionResponse> {
        let request = args.req.unwrap_or_default();
        names::check_catalog(request.cat_name.as_deref())?;
        let partition = self.partition(Some(request.db_name), Some(request.tbl_name), Some(request.part_vals)).await?;
        Ok(hive::GetPartitionResponse { partition })
    }
    async fn get_partition_by_name(&self, args: hive::GetPartitionByNameArgs) -> Answer<hive::Partition> {
        self.partition_by_name(args.db_name, args.tbl_name, args.part_name).await
    }
    async fn get_partitions(&self, args: hive::GetPartitionsArgs) -> Answer<Listed<hive::Partition>> {
        self.partitions(args.db_name, args.tbl_name, None, args.max_parts).await
    }
    async fn get_partitions_with_auth(&self, args: hive::GetPartitionsWithAuthArgs) -> Answer<Listed<hive::Partition>> {
        self.partitions(args.db_name, args.tbl_name, None, args.max_parts).await
    }
    async fn get_partitions_req(&self, args: hive::GetPartitionsReqArgs) -> Answer<hive::PartitionsResponse> {
        let request = args.req.unwrap_or_default();
        names::check_catalog(request.cat_name.as_deref())?;
        let (database, table) = (Some(request.db_name), Some(request.tbl_name));
        let partitions = self.partitions(database, table, None, request.max_parts).await?;
        Ok(hive::PartitionsResponse { partitions })
    }
    async fn get_partitions_ps(&self, args: hive::GetPartitionsPsArgs) -> Answer<Listed<hive::Partition>> {
        self.partitions(args.db_name, args.tbl_name, args.part_vals, args.max_parts).await
    }
    async fn get_partitions_ps_with_auth(
        &self,
        args: hive::GetPartitionsPsWithAuthArgs,
    ) -> Answer<Listed<hive::Partition>> {
        self.partitions(args.db_name, args.tbl_name, args.part_vals, args.max_parts).await
    }
    async fn get_partitions_ps_with_auth_req(
        &self,
        args: hive::GetPartitionsPsWithAuthReqArgs,
    ) -> Answer<hive::GetPartitionsPsWithAuthResponse> {
        let request = args.req.unwrap_or_default();
        names::check_catalog(request.cat_name.as_deref())?;
        let (database, table) = (Some(request.db_name), Some(request.tbl_name));
        let partitions = match request.part_names {
            Some(names) => self.partitions_by_names(database, table, Some(names)).await?,
            None => self.partitions(database, table, request.part_vals, request.max_parts).await?,
        };
        Ok(hive::GetPartitionsPsWithAuthResponse { partitions })
    }
    async fn get_partitions_by_names(&self, args: hive::GetPartitionsByNamesArgs) -> Answer<Listed<hive::Partition>> {
        self.partitions_by_names(args.db_name, args.tbl_name, args.names).await
    }
    async fn get_partitions_by_names_req(
        &self,
        args: hive::GetPartitionsByNamesReqArgs,
    ) -> Answer<hive::GetPartitionsByNamesResult> {
        let request = args.req.unwrap_or_default();
        let (database, table) = (Some(request.db_name), Some(request.tbl_name));
        let partitions = self.partitions_by_names(database, table, request.names).await?;
        Ok(hive::GetPartitionsByNamesResult { partitions, ..hive::GetPartitionsByNamesResult::default() })
    }
    async fn get_partitions_by_filter(&self, args: hive::GetPartitionsByFilterArgs) -> Answer<Listed<hive::Partition>> {
        self.partitions_by_filter(args.db_name, args.tbl_name, args.filter, limit(args.max_parts)).await
    }
    async fn get_partitions_by_filter_req(
        &self,
        args: hive::GetPartitionsByFilterReqArgs,
    ) -> Answer<Listed<hive::Partition>> {
        let request = args.req.unwrap_or_default();
        names::check_catalog(request.cat_name.as_deref())?;
        self.partitions_by_filter(request.db_name, request.tbl_name, request.filter, limit(request.max_parts)).await
    }
    async fn get_num_partitions_by_filter(&self, args: hive::GetNumPartitionsByFilterArgs) -> Answer<i32> {
        self.count_by_filter(args.db_name, args.tbl_name, args.filter).await
    }
    async fn get_part_specs_by_filter(&self, args: hive::GetPartSpecsByFilterArgs) -> Answer<Vec<hive::PartitionSpec>> {
        self.specs_by_filter(args.db_name, args.tbl_name, args.filter, args.max_parts).await
    }
    async fn get_partitions_with_specs(
        &self,
        args: hive::GetPartitionsWithSpecsArgs,
    ) -> Answer<hive::GetPartitionsResponse> {
        let partition_spec = Some(self.partitions_as(args.request.unwrap_or_default()).await?);
        Ok(hive::GetPartitionsResponse { partition_spec })
    }
    async fn get_partitions_pspec(&self, args: hive::GetPartitionsPspecArgs) -> Answer<Vec<hive::PartitionSpec>> {
        self.specs_by_filter(args.db_name, args.tbl_name, None, args.max_parts).await
    }
    async fn get_partitions_by_expr(
        &self,
        args: hive::GetPartitionsByExprArgs,
    ) -> Answer<hive::PartitionsByExprResult> {
        let request = args.req.unwrap_or_default();
        names::check_catalog(request.cat_name.as_deref())?;
        let has_unknown_partitions = !request.expr.is_empty();
        let (database, table) = (Some(request.db_name), Some(request.tbl_name));
        let max = if has_unknown_partitions { None } else { request.max_parts };
        let partitions = self.partitions(database, table, None, max).await?;
        Ok(hive::PartitionsByExprResult { partitions, has_unknown_partitions })
    }
    async fn get_partitions_spec_by_expr(
        &self,
        args: hive::GetPartitionsSpecByExprArgs,
    ) -> Answer<hive::PartitionsSpecByExprResult> {
        let request = args.req.unwrap_or_default();
        names::check_catalog(request.cat_name.as_deref())?;
        let has_unknown_partitions = !request.expr.is_empty();
        let (database, table) = (Some(request.db_name), Some(request.tbl_name));
        let max = if has_unknown_partitions { None } else { request.max_parts.map(i32::from) };
        let partitions_spec = self.specs_by_filter(database, table, None, max).await?;
        Ok(hive::PartitionsSpecByExprResult { partitions_spec, has_unknown_partitions })
    }
    async fn get_partition_names(&self, args: hive::GetPartitionNamesArgs) -> Answer<Texts> {
        self.partition_names(args.db_name, args.tbl_name, None, args.max_parts).await
    }
    async fn fetch_partition_names_req(&self, args: hive::FetchPartitionNamesReqArgs) -> Answer<Texts> {
        let request = args.partition_req.unwrap_or_default();
        names::check_catalog(request.cat_name.as_deref())?;
        self.partition_names(Some(request.db_name), Some(request.tbl_name), None, request.max_parts).await
    }
    async fn get_partition_names_ps(&self, args: hive::GetPartitionNamesPsArgs) -> Answer<Texts> {
        self.partition_names(args.db_name, args.tbl_name, args.part_vals, args.max_parts).await
    }
    async fn get_partition_names_ps_req(&self, args: hive::GetPartitionNamesPsReqArgs) -> Answer<Texts> {
        let request = args.req.unwrap_or_default();
        names::check_catalog(request.cat_name.as_deref())?;
        let (database, table) = (Some(request.db_name), Some(request.tbl_name));
        self.partition_names(database, table, request.part_values, request.max_parts).await
    }
    async fn get_partition_names_req(&self, args: hive::GetPartitionNamesReqArgs) -> Answer<Texts> {
        let request = args.req.unwrap_or_default();
        names::check_catalog(request.cat_name.as_deref())?;
        if !request.expr.is_empty() {
            return Err(no_expressions());
        }
        self.partition_names(Some(request.db_name), Some(request.tbl_name), None, request.max_parts).await
    }
    async fn get_partition_values(&self, args: hive::GetPartitionValuesArgs) -> Answer<hive::PartitionValuesResponse> {
        self.partition_values(args.request.unwrap_or_default()).await
    }
    async fn partition_name_to_vals(&self, args: hive::PartitionNameToValsArgs) -> Answer<Vec<String>> {
        let name = args.part_name.unwrap_or_default();
        if name.is_empty() {
            return Ok(Vec::new());
        }
        Ok(names::parts_of(&name)?.into_iter().map(|(_, value)| value).collect())
    }
    async fn partition_name_to_spec(&self, args: hive::PartitionNameToSpecArgs) -> Answer<BTreeMap<String, String>> {
        let name = args.part_name.unwrap_or_default();
        if name.is_empty() {
            return Ok(BTreeMap::new());
        }
        Ok(names::parts_of(&name)?.into_iter().collect())
    }
    async fn partition_name_has_valid_characters(&self, _: hive::PartitionNameHasValidCharactersArgs) -> Answer<bool> {
        Ok(true)
    }

    // ---- partitions, changed

    async fn add_partition(&self, args: hive::AddPartitionArgs) -> Answer<hive::Partition> {
        self.add_one_partition(args.new_part).await
    }
    async fn add_partition_with_environment_context(
        &self,
        args: hive::AddPartitionWithEnvironmentContextArgs,
    ) -> Answer<hive::Partition> {
        self.add_one_partition(args.new_part).await
    }
    async fn add_partitions(&self, args: hive::AddPartitionsArgs) -> Answer<i32> {
        let added = self.add_partitions_of_one(args.new_parts.unwrap_or_default()).await?;
        Ok(i32::try_from(added.len()).unwrap_or(i32::MAX))
    }
    async fn add_partitions_req(&self, args: hive::AddPartitionsReqArgs) -> Answer<hive::AddPartitionsResult> {
        let partitions = self.add_partitions_as(args.request.unwrap_or_default()).await?;
        Ok(hive::AddPartitionsResult { partitions, ..hive::AddPartitionsResult::default() })
    }
    async fn append_partition(&self, args: hive::AppendPartitionArgs) -> Answer<hive::Partition> {
        self.append(args.db_name, args.tbl_name, args.part_vals).await
    }
    async fn append_partition_with_environment_context(
        &self,
        args: hive::AppendPartitionWithEnvironmentContextArgs,
    ) -> Answer<hive::Partition> {
        self.append(args.db_name, args.tbl_name, args.part_vals).await
    }
    async fn append_partition_by_name(&self, args: hive::AppendPartitionByNameArgs) -> Answer<hive::Partition> {
        self.append_by_name(args.db_name, args.tbl_name, args.part_name).await
    }
    async fn append_partition_by_name_with_environment_context(
        &self,
        args: hive::AppendPartitionByNameWithEnvironmentContextArgs,
    ) -> Answer<hive::Partition> {
        self.append_by_name(args.db_name, args.tbl_name, args.part_name).await
    }
    async fn append_partition_req(&self, args: hive::AppendPartitionReqArgs) -> Answer<hive::Partition> {
        self.append_as(args.append_partitions_req.unwrap_or_default()).await
    }
    async fn alter_partition(&self, args: hive::AlterPartitionArgs) -> Answer<()> {
        self.change_partitions(args.db_name, args.tbl_name, args.new_part.into_iter().collect()).await
    }
    async fn alter_partition_with_environment_context(
        &self,
        args: hive::AlterPartitionWithEnvironmentContextArgs,
    ) -> Answer<()> {
        self.change_partitions(args.db_name, args.tbl_name, args.new_part.into_iter().collect()).await
    }
    async fn alter_partitions(&self, args: hive::AlterPartitionsArgs) -> Answer<()> {
        self.change_partitions(args.db_name, args.tbl_name, args.new_parts.unwrap_or_default()).await
    }
    async fn alter_partitions_with_environment_context(
        &self,
        args: hive::AlterPartitionsWithEnvironmentContextArgs,
    ) -> Answer<()> {
        self.change_partitions(args.db_name, args.tbl_name, args.new_parts.unwrap_or_default()).await
    }
    async fn alter_partitions_req(&self, args: hive::AlterPartitionsReqArgs) -> Answer<hive::AlterPartitionsResponse> {
        self.change_partitions_as(args.req.unwrap_or_default()).await?;
        Ok(hive::AlterPartitionsResponse {})
    }
    async fn rename_partition(&self, args: hive::RenamePartitionArgs) -> Answer<()> {
        self.rename_one_partition(args.db_name, args.tbl_name, args.part_vals, args.new_part).await
    }
    async fn rename_partition_req(&self, args: hive::RenamePartitionReqArgs) -> Answer<hive::RenamePartitionResponse> {
        let request = args.req.unwrap_or_default();
        names::check_catalog(request.cat_name.as_deref())?;
        let (database, table) = (Some(request.db_name), Some(request.table_name));
        self.rename_one_partition(database, table, Some(request.part_vals), Some(request.new_part)).await?;
        Ok(hive::RenamePartitionResponse {})
    }
    async fn drop_partition(&self, args: hive::DropPartitionArgs) -> Answer<bool> {
        self.drop_partition_with(args.db_name, args.tbl_name, args.part_vals, args.delete_data).await
    }
    async fn drop_partition_with_environment_context(
        &self,
        args: hive::DropPartitionWithEnvironmentContextArgs,
    ) -> Answer<bool> {
        self.drop_partition_with(args.db_name, args.tbl_name, args.part_vals, args.delete_data).await
    }
    async fn drop_partition_by_name(&self, args: hive::DropPartitionByNameArgs) -> Answer<bool> {
        self.drop_partition_named(args.db_name, args.tbl_name, args.part_name, args.delete_data).await
    }
    async fn drop_partition_by_name_with_environment_context(
        &self,
        args: hive::DropPartitionByNameWithEnvironmentContextArgs,
    ) -> Answer<bool> {
        self.drop_partition_named(args.db_name, args.tbl_name, args.part_name, args.delete_data).await
    }
    async fn drop_partition_req(&self, args: hive::DropPartitionReqArgs) -> Answer<bool> {
        self.drop_partition_as(args.drop_partition_req.unwrap_or_default()).await
    }
    async fn drop_partitions_req(&self, args: hive::DropPartitionsReqArgs) -> Answer<hive::DropPartitionsResult> {
        let partitions = self.drop_partitions_as(args.req.unwrap_or_default()).await?;
        Ok(hive::DropPartitionsResult { partitions })
    }

    // ---- statistics

    async fn get_table_statistics_req(&self, args: hive::GetTableStatisticsReqArgs) -> Answer<hive::TableStatsResult> {
        let request = args.request.unwrap_or_default();
        names::check_catalog(request.cat_name.as_deref())?;
        let table_stats = self.table_statistics(request.db_name, request.tbl_name, &request.col_names).await?;
        Ok(hive::TableStatsResult { table_stats, ..hive::TableStatsResult::default() })
    }
    async fn get_table_column_statistics(
        &self,
        args: hive::GetTableColumnStatisticsArgs,
    ) -> Answer<hive::ColumnStatistics> {
        self.one_table_statistics(args.db_name, args.tbl_name, args.col_name).await
    }
    async fn get_partitions_statistics_req(
        &self,
        args: hive::GetPartitionsStatisticsReqArgs,
    ) -> Answer<hive::PartitionsStatsResult> {
        let part_stats = self.partition_statistics(args.request.unwrap_or_default()).await?;
        Ok(hive::PartitionsStatsResult { part_stats, ..hive::PartitionsStatsResult::default() })
    }
    async fn get_aggr_stats_for(&self, args: hive::GetAggrStatsForArgs) -> Answer<hive::AggrStats> {
        self.aggregated_statistics(args.request.unwrap_or_default()).await
    }
    async fn update_table_column_statistics(&self, args: hive::UpdateTableColumnStatisticsArgs) -> Answer<bool> {
        self.set_statistics(*args.stats_obj.unwrap_or_default()).await?;
        Ok(true)
    }
    async fn update_partition_column_statistics(
        &self,
        args: hive::UpdatePartitionColumnStatisticsArgs,
    ) -> Answer<bool> {
        self.set_statistics(*args.stats_obj.unwrap_or_default()).await?;
        Ok(true)
    }
    async fn update_table_column_statistics_req(
        &self,
        args: hive::UpdateTableColumnStatisticsReqArgs,
    ) -> Answer<hive::SetPartitionsStatsResponse> {
        self.set_all_statistics(args.req.unwrap_or_default()).await?;
        Ok(hive::SetPartitionsStatsResponse { result: true })
    }
    async fn update_partition_column_statistics_req(
        &self,
        args: hive::UpdatePartitionColumnStatisticsReqArgs,
    ) -> Answer<hive::SetPartitionsStatsResponse> {
        self.set_all_statistics(args.req.unwrap_or_default()).await?;
        Ok(hive::SetPartitionsStatsResponse { result: true })
    }
    async fn set_aggr_stats_for(&self, args: hive::SetAggrStatsForArgs) -> Answer<bool> {
        self.set_all_statistics(args.request.unwrap_or_default()).await?;
        Ok(true)
    }
    async fn delete_table_column_statistics(&self, args: hive::DeleteTableColumnStatisticsArgs) -> Answer<bool> {
        self.delete_statistics(args.db_name, args.tbl_name, None, args.col_name).await?;
        Ok(true)
    }
    async fn delete_partition_column_statistics(
        &self,
        args: hive::DeletePartitionColumnStatisticsArgs,
    ) -> Answer<bool> {
        self.delete_statistics(args.db_name, args.tbl_name, Some(args.part_name), args.col_name).await?;
        Ok(true)
    }
    async fn delete_column_statistics_req(&self, args: hive::DeleteColumnStatisticsReqArgs) -> Answer<bool> {
        self.delete_all_statistics(args.req.unwrap_or_default()).await.map(|()| true)
    }

    // ---- functions

    async fn get_functions(&self, args: hive::GetFunctionsArgs) -> Answer<Vec<String>> {
        self.function_names(args.db_name, args.pattern).await
    }
    async fn get_functions_req(&self, args: hive::GetFunctionsReqArgs) -> Answer<hive::GetFunctionsResponse> {
        self.functions_of(args.request.unwrap_or_default()).await
    }
    async fn get_function(&self, args: hive::GetFunctionArgs) -> Answer<hive::Function> {
        self.function(args.db_name, args.func_name).await
    }
    async fn get_all_functions(&self) -> Answer<hive::GetAllFunctionsResponse> {
        let functions = Some(self.all_functions().await?);
        Ok(hive::GetAllFunctionsResponse { functions })
    }
    async fn create_function(&self, args: hive::CreateFunctionArgs) -> Answer<()> {
        self.make_function(args.func.unwrap_or_default()).await
    }
    async fn alter_function(&self, args: hive::AlterFunctionArgs) -> Answer<()> {
        let new = args.new_func.ok_or_else(|| MetaException::new("the new function is missing"))?;
        self.change_function(args.db_name, args.func_name, new).await
    }
    async fn drop_function(&self, args: hive::DropFunctionArgs) -> Answer<()> {
        self.remove_function(args.db_name, args.func_name).await
    }

    // ---- locks

    async fn lock(&self, args: hive::LockArgs) -> Answer<hive::LockResponse> {
        self.take_lock(args.rqst.unwrap_or_default()).await
    }
    async fn check_lock(&self, args: hive::CheckLockArgs) -> Answer<hive::LockResponse> {
        self.ask_lock(args.rqst.unwrap_or_default()).await
    }
    async fn unlock(&self, args: hive::UnlockArgs) -> Answer<()> {
        self.give_lock(args.rqst.unwrap_or_default()).await
    }
    async fn heartbeat(&self, args: hive::HeartbeatArgs) -> Answer<()> {
        self.renew_lock(args.ids.unwrap_or_default()).await
    }
    async fn show_locks(&self, args: hive::ShowLocksArgs) -> Answer<hive::ShowLocksResponse> {
        self.list_locks(args.rqst.unwrap_or_default()).await
    }

    // ---- constraints

    answered_by! {
        add_primary_key(AddPrimaryKeyArgs) -> () = new_primary_key;
        add_foreign_key(AddForeignKeyArgs) -> () = new_foreign_key;
        add_unique_constraint(AddUniqueConstraintArgs) -> () = new_unique_constraint;
        add_not_null_constraint(AddNotNullConstraintArgs) -> () = new_not_null_constraint;
        add_default_constraint(AddDefaultConstraintArgs) -> () = new_default_constraint;
        add_check_constraint(AddCheckConstraintArgs) -> () = new_check_constraint;
        drop_constraint(DropConstraintArgs) -> () = remove_constraint;
        get_primary_keys(GetPrimaryKeysArgs) -> hive::PrimaryKeysResponse = primary_keys;
        get_foreign_keys(GetForeignKeysArgs) -> hive::ForeignKeysResponse = foreign_keys;
        get_unique_constraints(GetUniqueConstraintsArgs) -> hive::UniqueConstraintsResponse = unique_constraints;
        get_not_null_constraints(GetNotNullConstraintsArgs) -> hive::NotNullConstraintsResponse = not_null_constraints;
        get_default_constraints(GetDefaultConstraintsArgs) -> hive::DefaultConstraintsResponse = default_constraints;
        get_check_constraints(GetCheckConstraintsArgs) -> hive::CheckConstraintsResponse = check_constraints;
        get_all_table_constraints(GetAllTableConstraintsArgs) -> hive::AllTableConstraintsResponse = all_constraints;
    }

    // ---- roles and privileges

    async fn get_role_names(&self) -> Answer<Vec<String>> {
        self.role_names().await
    }
    answered_by! {
        create_role(CreateRoleArgs) -> bool = new_role;
        drop_role(DropRoleArgs) -> bool = remove_role;
        grant_role(GrantRoleArgs) -> bool = give_role;
        revoke_role(RevokeRoleArgs) -> bool = take_role;
        grant_revoke_role(GrantRevokeRoleArgs) -> hive::GrantRevokeRoleResponse = change_role;
        list_roles(ListRolesArgs) -> Vec<hive::Role> = roles_of;
        get_principals_in_role(GetPrincipalsInRoleArgs) -> hive::GetPrincipalsInRoleResponse = principals_in;
        get_role_grants_for_principal(GetRoleGrantsForPrincipalArgs) -> hive::GetRoleGrantsForPrincipalResponse
            = role_grants;
        grant_privileges(GrantPrivilegesArgs) -> bool = give_privileges;
        revoke_privileges(RevokePrivilegesArgs) -> bool = take_privileges;
        grant_revoke_privileges(GrantRevokePrivilegesArgs) -> hive::GrantRevokePrivilegeResponse = change_privileges;
        list_privileges(ListPrivilegesArgs) -> Vec<hive::HiveObjectPrivilege> = listed_privileges;
        get_privilege_set(GetPrivilegeSetArgs) -> hive::PrincipalPrivilegeSet = privilege_set;
    }

    // ---- notifications

    async fn get_current_notification_event_id(&self) -> Answer<hive::CurrentNotificationEventId> {
        self.last_notification().await
    }
    answered_by! {
        get_next_notification(GetNextNotificationArgs) -> hive::NotificationEventResponse = next_notifications;
        get_notification_events_count(GetNotificationEventsCountArgs) -> hive::NotificationEventsCountResponse
            = count_notifications;
        fire_listener_event(FireListenerEventArgs) -> hive::FireEventResponse = fire_event;
    }

    // ---- what there is none of

    async fn get_open_txns(&self) -> Answer<hive::GetOpenTxnsResponse> {
        self.open_transactions().await
    }
    async fn get_open_txns_info(&self) -> Answer<hive::GetOpenTxnsInfoResponse> {
        self.open_transaction_infos().await
    }
    async fn get_metastore_db_uuid(&self) -> Answer<String> {
        self.catalog_id().await
    }
    answered_by! {
        get_open_txns_req(GetOpenTxnsReqArgs) -> hive::GetOpenTxnsResponse = open_transactions_of;
        get_valid_write_ids(GetValidWriteIdsArgs) -> hive::GetValidWriteIdsResponse = valid_write_ids;
        show_compact(ShowCompactArgs) -> hive::ShowCompactResponse = compactions;
        open_txns(OpenTxnsArgs) -> hive::OpenTxnsResponse = begin_transactions;
        allocate_table_write_ids(AllocateTableWriteIdsArgs) -> hive::AllocateTableWriteIdsResponse = write_ids;
        compact2(Compact2Args) -> hive::CompactionResponse = compact;
        commit_txn(CommitTxnArgs) -> () = commit_transaction;
        abort_txn(AbortTxnArgs) -> () = abort_transaction;
        abort_txns(AbortTxnsArgs) -> () = abort_transactions;
        heartbeat_txn_range(HeartbeatTxnRangeArgs) -> hive::HeartbeatTxnRangeResponse = renew_transactions;
        add_dynamic_partitions(AddDynamicPartitionsArgs) -> () = note_partitions;
        create_catalog(CreateCatalogArgs) -> () = new_catalog;
        alter_catalog(AlterCatalogArgs) -> () = change_catalog;
        drop_catalog(DropCatalogArgs) -> () = remove_catalog;
        get_delegation_token(GetDelegationTokenArgs) -> String = delegation_token;
        drop_index_by_name(DropIndexByNameArgs) -> bool = remove_index;
        truncate_table(TruncateTableArgs) -> () = empty_table;
        truncate_table_req(TruncateTableReqArgs) -> hive::TruncateTableResponse = empty_table_as;
        exchange_partitions(ExchangePartitionsArgs) -> Vec<hive::Partition> = exchange;
    }

    async fn get_indexes(&self, _: hive::GetIndexesArgs) -> Answer<Vec<hive::Index>> {
        Ok(Vec::new())
    }
}

fn no_expressions() -> Exception {
    MetaException::new("an expression of Hive's own cannot be read here: ask for all partitions, or by a filter").into()
}
