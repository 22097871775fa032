//! Tables that are altered: their parameters and columns, their names, and their partitions with them.

use tereza_thrift::hive::*;

use super::{Asking, drop_web, get_table, make_table, make_web, new_partition};
use crate::support::{Database_, column, environment, map, partitioned_table, table, text, texts};

pub(super) async fn play(to: &mut Asking) {
    make_web(to).await;
    to.ask(CreateDatabaseArgs { database: Some(Database_ { name: text("other"), ..Database_::default() }) }).await;
    parameters(to).await;
    columns(to).await;
    names(to).await;
    compare_and_set(to).await;
    to.ask(DropDatabaseArgs { name: text("other"), delete_data: Some(true), cascade: Some(true) }).await;
    drop_web(to).await;
}

async fn parameters(to: &mut Asking) {
    make_table(to, table("t")).await;
    let mut new = to.ask(get_table("t")).await.unwrap_or_default();
    new.parameters = Some(map(&[("a", "b")]));
    new.owner = text("bob");
    new.retention = Some(9);
    new.last_access_time = Some(4);
    to.ask(alter("T", new.clone())).await;
    to.ask(get_table("t")).await;
    // What a client leaves out.
    to.ask(alter("t", Table { parameters: None, create_time: None, owner: None, ..new.clone() })).await;
    to.ask(get_table("t")).await;
    let mut storage = new.clone();
    storage.sd.as_mut().unwrap().location = None;
    storage.sd.as_mut().unwrap().input_format = text("in");
    to.ask(alter("t", storage)).await;
    to.ask(get_table("t")).await;
    let mut moved = new.clone();
    moved.sd.as_mut().unwrap().location = text("file:///tmp/tereza-differential/moved");
    to.ask(alter("t", moved)).await;
    to.ask(get_table("t")).await;
    // To external and back.
    to.ask(alter("t", Table { parameters: Some(map(&[("EXTERNAL", "TRUE")])), ..new.clone() })).await;
    to.ask(get_table("t")).await;
    to.ask(alter("t", Table { parameters: Some(map(&[("EXTERNAL", "FALSE")])), ..new.clone() })).await;
    to.ask(get_table("t")).await;
    let to_view = Table { table_type: text("VIRTUAL_VIEW"), view_original_text: text("select 1"), ..new.clone() };
    to.ask(alter("t", to_view)).await;
    to.ask(get_table("t")).await;

    to.ask(alter("nope", table("nope"))).await;
    to.ask(AlterTableArgs { dbname: text("nope"), tbl_name: text("t"), new_tbl: Some(table("t")) }).await;
    to.ask(alter("t", Table { sd: None, ..table("t") })).await;
    to.ask(AlterTableArgs { dbname: text("web"), tbl_name: text("t"), new_tbl: None }).await;
    let context = |name: &str, new: Table, entries: &[(&str, &str)]| AlterTableWithEnvironmentContextArgs {
        dbname: text("web"),
        tbl_name: text(name),
        new_tbl: Some(new),
        environment_context: environment(entries),
    };
    to.ask(context("t", new.clone(), &[("DO_NOT_UPDATE_STATS", "true")])).await;
    to.ask(get_table("t")).await;
    to.ask(context("nope", new, &[])).await;
}

async fn columns(to: &mut Asking) {
    make_table(to, partitioned_table("p")).await;
    to.ask(AddPartitionArgs { new_part: Some(new_partition("p", &["a", "1", "2024-01-01"])) }).await;
    let old = to.ask(get_table("p")).await.unwrap_or_default();
    let with_columns = |columns: &[FieldSchema]| {
        let mut new = old.clone();
        new.sd.as_mut().unwrap().cols = Some(columns.to_vec().into());
        new
    };
    let partition = || GetPartitionArgs {
        db_name: text("web"),
        tbl_name: text("p"),
        part_vals: Some(texts(&["a", "1", "2024-01-01"])),
    };
    let three = [column("id", "bigint"), column("name", "string"), column("more", "int")];
    to.ask(alter("p", with_columns(&three))).await;
    to.ask(get_table("p")).await;
    to.ask(partition()).await;
    let cascade = |new: Table| AlterTableWithEnvironmentContextArgs {
        dbname: text("web"),
        tbl_name: text("p"),
        new_tbl: Some(new),
        environment_context: environment(&[("CASCADE", "true")]),
    };
    let four = [column("id", "bigint"), column("name", "string"), column("more", "int"), column("most", "int")];
    to.ask(cascade(with_columns(&four))).await;
    to.ask(get_table("p")).await;
    to.ask(partition()).await;
    // To a wider type, to a narrower one, and to what is no type.
    to.ask(alter("p", with_columns(&[column("id", "bigint"), column("name", "string"), column("more", "bigint")])))
        .await;
    to.ask(alter("p", with_columns(&[column("id", "int"), column("name", "string"), column("more", "bigint")]))).await;
    to.ask(alter("p", with_columns(&[column("id", "foo")]))).await;
    to.ask(alter("p", with_columns(&[column("id", "bigint"), column("ID", "bigint")]))).await;
    to.ask(alter("p", with_columns(&[column("renamed", "bigint"), column("name", "string")]))).await;
    to.ask(get_table("p")).await;
    // The keys of partitions.
    let keys = |keys: Option<Vec<FieldSchema>>| Table { partition_keys: keys, ..old.clone() };
    to.ask(alter("p", keys(Some(vec![column("ds", "string"), column("k", "bigint"), column("d", "date")])))).await;
    to.ask(GetSchemaArgs { db_name: text("web"), table_name: text("p") }).await;
    to.ask(alter("p", keys(Some(vec![column("other", "string"), column("k", "int"), column("d", "date")])))).await;
    to.ask(alter("p", keys(Some(vec![column("ds", "string")])))).await;
    to.ask(alter("p", keys(Some(Vec::new())))).await;
    to.ask(alter("p", keys(None))).await;
    to.ask(GetSchemaArgs { db_name: text("web"), table_name: text("p") }).await;
}

async fn names(to: &mut Asking) {
    make_table(to, table("old")).await;
    make_table(to, table("taken")).await;
    let old = to.ask(get_table("old")).await.unwrap_or_default();
    let named = |database: &str, name: &str| Table { db_name: text(database), table_name: text(name), ..old.clone() };
    to.ask(alter("old", named("web", "taken"))).await;
    to.ask(alter("old", named("nope", "old"))).await;
    to.ask(alter("old", named("web", "a-b"))).await;
    to.ask(alter("nope", named("web", "free"))).await;
    to.ask(alter("old", named("web", "New"))).await;
    to.ask(get_table("old")).await;
    to.ask(get_table("new")).await;
    let external = map(&[("EXTERNAL", "TRUE")]);
    let mut external = Table { table_type: text("EXTERNAL_TABLE"), parameters: Some(external), ..table("ext") };
    external.sd.as_mut().unwrap().location = text("file:///tmp/tereza-differential/ext");
    make_table(to, external).await;
    let mut renamed = to.ask(get_table("ext")).await.unwrap_or_default();
    renamed.table_name = text("ext2");
    renamed.db_name = text("other");
    to.ask(alter("ext", renamed)).await;
    to.ask(get_table("ext")).await;
    to.ask(GetTableArgs { dbname: text("other"), tbl_name: text("ext2") }).await;
}

/// Iceberg's commits.
async fn compare_and_set(to: &mut Asking) {
    let parameters =
        |location: &str| Some(map(&[("EXTERNAL", "TRUE"), ("table_type", "ICEBERG"), ("metadata_location", location)]));
    let mut iceberg = Table { table_type: text("EXTERNAL_TABLE"), parameters: parameters("1"), ..table("ice") };
    iceberg.sd.as_mut().unwrap().location = text("file:///tmp/tereza-differential/ice");
    make_table(to, iceberg).await;
    let old = to.ask(get_table("ice")).await.unwrap_or_default();
    for (expected, next) in [("1", "2"), ("1", "3")] {
        let args = AlterTableWithEnvironmentContextArgs {
            dbname: text("web"),
            tbl_name: text("ice"),
            new_tbl: Some(Table { parameters: parameters(next), ..old.clone() }),
            environment_context: environment(&[
                ("expected_parameter_key", "metadata_location"),
                ("expected_parameter_value", expected),
            ]),
        };
        to.ask(args).await;
    }
    to.ask(get_table("ice")).await;
}

fn alter(name: &str, new: Table) -> AlterTableArgs {
    AlterTableArgs { dbname: text("web"), tbl_name: text(name), new_tbl: Some(new) }
}
