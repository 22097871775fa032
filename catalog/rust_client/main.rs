//! What the client of the crate `hive_metastore` asks of a metastore, in both of its plain transports:
//! `tereza-metastore-rust-client HOST:PORT` says `ok` or why not. `catalog/tests/it/clients.rs` runs it.

use std::error::Error;
use std::fmt::Debug;
use std::net::SocketAddr;

use hive_metastore::{
    ColumnStatistics, ColumnStatisticsData, ColumnStatisticsDesc, ColumnStatisticsObj, Database, EnvironmentContext,
    FieldSchema, LockComponent, LockLevel, LockRequest, LockState, LockType, LongColumnStatsData, Partition, SerDeInfo,
    StorageDescriptor, Table, TableStatsRequest, ThriftHiveMetastoreClient, ThriftHiveMetastoreClientBuilder,
    ThriftHiveMetastoreGetTableException, UnlockRequest,
};
use volo_thrift::MaybeException;
use volo_thrift::codec::default::DefaultMakeCodec;

type Checked<T = ()> = Result<T, Box<dyn Error>>;

const PARQUET: &str = "org.apache.hadoop.hive.ql.io.parquet";

/// The answer, or the exception as an error.
fn answered<T, E: Debug, F: Error + 'static>(answer: Result<MaybeException<T, E>, F>) -> Checked<T> {
    match answer? {
        MaybeException::Ok(answer) => Ok(answer),
        MaybeException::Exception(exception) => Err(format!("{exception:?}").into()),
    }
}

fn column(name: &'static str, type_name: &'static str) -> FieldSchema {
    FieldSchema { name: Some(name.into()), r#type: Some(type_name.into()), comment: None }
}

fn storage() -> StorageDescriptor {
    let serde = SerDeInfo {
        serialization_lib: Some(format!("{PARQUET}.serde.ParquetHiveSerDe").into()),
        ..SerDeInfo::default()
    };
    StorageDescriptor {
        cols: Some(vec![column("id", "bigint"), column("name", "string")]),
        input_format: Some(format!("{PARQUET}.MapredParquetInputFormat").into()),
        output_format: Some(format!("{PARQUET}.MapredParquetOutputFormat").into()),
        serde_info: Some(serde),
        ..StorageDescriptor::default()
    }
}

async fn check(client: ThriftHiveMetastoreClient, database: &'static str) -> Checked {
    let made = Database { name: Some(database.into()), ..Database::default() };
    answered(client.create_database(made.clone()).await)?;
    assert!(
        answered(client.create_database(made).await).is_err_and(|error| error.to_string().contains("AlreadyExists"))
    );
    assert!(answered(client.get_all_databases().await)?.contains(&database.into()));

    let table = Table {
        db_name: Some(database.into()),
        table_name: Some("events".into()),
        table_type: Some("MANAGED_TABLE".into()),
        sd: Some(storage()),
        partition_keys: Some(vec![column("ds", "string"), column("k", "int")]),
        parameters: Some([("comment".into(), "größer".into())].into_iter().collect()),
        ..Table::default()
    };
    answered(client.create_table(table).await)?;
    let mut found = answered(client.get_table(database.into(), "EVENTS".into()).await)?;
    assert_eq!(found.parameters.as_ref().and_then(|all| all.get("comment")).map(|text| text.as_str()), Some("größer"));
    let location = found.sd.as_ref().and_then(|sd| sd.location.clone()).ok_or("a table has a place")?;
    assert!(location.ends_with(&format!("{database}.db/events")), "{location}");
    let missing = client.get_table(database.into(), "nope".into()).await?;
    let is_missing = matches!(missing, MaybeException::Exception(ThriftHiveMetastoreGetTableException::O2(_)));
    assert!(is_missing, "another exception, or a table");

    let partition = |day: &str, k: i32| Partition {
        db_name: Some(database.into()),
        table_name: Some("events".into()),
        values: Some(vec![day.to_owned().into(), k.to_string().into()]),
        sd: Some(StorageDescriptor { location: Some(format!("{location}/ds={day}/k={k}").into()), ..storage() }),
        ..Partition::default()
    };
    let many = (0..300).map(|k| partition("2024-02-29", k)).chain([partition("a/b", 7)]).collect();
    assert_eq!(answered(client.add_partitions(many).await)?, 301);
    let names = answered(client.get_partition_names(database.into(), "events".into(), -1).await)?;
    assert!(names.len() == 301 && names.contains(&"ds=a%2Fb/k=7".into()), "{} names", names.len());
    let filter = "ds = \"2024-02-29\" and k >= 290";
    let filtered =
        answered(client.get_partitions_by_filter(database.into(), "events".into(), filter.into(), -1).await)?;
    assert_eq!(filtered.len(), 10);
    let named = vec!["ds=a%2Fb/k=7".into(), "ds=nope/k=1".into()];
    let named = answered(client.get_partitions_by_names(database.into(), "events".into(), named).await)?;
    assert_eq!(named.len(), 1);
    assert_eq!(named[0].values.as_deref(), Some(&["a/b".into(), "7".into()][..]));

    let ids = LongColumnStatsData {
        low_value: Some(1),
        high_value: Some(9),
        num_nulls: 2,
        num_d_vs: 5,
        ..Default::default()
    };
    let statistics = ColumnStatistics {
        stats_desc: ColumnStatisticsDesc {
            is_tbl_level: true,
            db_name: database.into(),
            table_name: "events".into(),
            ..ColumnStatisticsDesc::default()
        },
        stats_obj: vec![ColumnStatisticsObj {
            col_name: "id".into(),
            col_type: "bigint".into(),
            stats_data: ColumnStatisticsData::LongStats(ids.clone()),
        }],
    };
    assert!(answered(client.update_table_column_statistics(statistics).await)?);
    let request = TableStatsRequest {
        db_name: database.into(),
        tbl_name: "events".into(),
        col_names: vec!["id".into()],
        ..Default::default()
    };
    let told = answered(client.get_table_statistics_req(request).await)?.table_stats;
    let [told] = &told[..] else { return Err(format!("{told:?}").into()) };
    assert!(
        matches!(&told.stats_data, ColumnStatisticsData::LongStats(data) if data.num_d_vs == 5 && data.low_value == Some(1))
    );

    let lock = || LockRequest {
        component: vec![LockComponent {
            r#type: LockType::EXCLUSIVE,
            level: LockLevel::TABLE,
            dbname: database.into(),
            tablename: Some("events".into()),
            partitionname: None,
            operation_type: None,
            is_acid: None,
            is_dynamic_partition_write: None,
        }],
        txnid: None,
        user: "ada".into(),
        hostname: "here".into(),
        agent_info: None,
    };
    let held = answered(client.lock(lock()).await)?;
    let waiting = answered(client.lock(lock()).await)?;
    assert_eq!((held.state, waiting.state), (LockState::ACQUIRED, LockState::WAITING));
    for lockid in [waiting.lockid, held.lockid] {
        answered(client.unlock(UnlockRequest { lockid }).await)?;
    }

    found.parameters.get_or_insert_default().insert("metadata_location".into(), "two".into());
    let properties = [
        ("expected_parameter_key".into(), "metadata_location".into()),
        ("expected_parameter_value".into(), "one".into()),
    ];
    let context = EnvironmentContext { properties: Some(properties.into_iter().collect()) };
    let altered = client.alter_table_with_environment_context(database.into(), "events".into(), found, context).await;
    assert!(answered(altered).is_err_and(|error| error.to_string().contains("The table has been modified")));
    answered(client.drop_table(database.into(), "events".into(), true).await)?;
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Checked {
    let address: SocketAddr = std::env::args().nth(1).ok_or("name the address of a metastore")?.parse()?;
    let builder = || ThriftHiveMetastoreClientBuilder::new("hms").address(address);
    check(builder().make_codec(DefaultMakeCodec::buffered()).build(), "buffered").await?;
    check(builder().make_codec(DefaultMakeCodec::framed()).build(), "framed").await?;
    println!("ok");
    Ok(())
}
