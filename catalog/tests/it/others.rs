//! The connection, statistics, functions, locks and what is not kept.

use bytes::Bytes;
use tereza_thrift::codec::ApplicationException;
use tereza_thrift::hive::*;

use crate::support::*;

#[tokio::test]
async fn a_connection_says_who_is_there() {
    let metastore = Metastore::new().await;
    let mut client = metastore.client().await;
    let groups = Some(texts(&["staff"]));
    let said = client.set_ugi(SetUgiArgs { user_name: text("ada"), group_names: groups }).await.unwrap();
    assert_eq!(said, ["staff"]);
    assert_eq!(client.get_version().await.unwrap(), "3.0");
    assert_eq!(client.get_status().await.unwrap(), FbStatus::ALIVE);
    assert!(client.alive_since().await.unwrap() > 0);
    let value = |name: &str| GetConfigValueArgs { name: text(name), default_value: text("d") };
    assert_eq!(client.get_config_value(value("hive.metastore.try.direct.sql")).await.unwrap(), "true");
    assert_eq!(client.get_config_value(value("hive.no.such.key")).await.unwrap(), "d");
    let refused = exception(client.get_config_value(value("javax.jdo.option.ConnectionPassword")).await);
    assert!(matches!(refused, Exception::ConfigValSecurity(_)), "{refused}");
    assert_eq!(client.get_role_names().await.unwrap(), ["admin", "public"]);
    let user = ListRolesArgs { principal_name: text("ada"), principal_type: Some(PrincipalType::USER) };
    assert_eq!(client.list_roles(user).await.unwrap()[0].role_name, text("public"));
    let request = PrimaryKeysRequest { db_name: "web".into(), tbl_name: "t".into(), ..Default::default() };
    let keys = client.get_primary_keys(GetPrimaryKeysArgs { request: Some(request) }).await.unwrap();
    assert!(keys.primary_keys.is_empty());
    // What is not there leaves the connection as it was.
    let refused = exception(client.open_txns(OpenTxnsArgs::default()).await);
    assert!(refused.to_string().contains("ACID tables"), "{refused}");
    assert!(matches!(refused, Exception::Application(own) if own.code == ApplicationException::INTERNAL_ERROR));
    assert_eq!(client.get_all_databases().await.unwrap(), ["default"]);
    assert!(metastore.calls.0.lock().unwrap().is_empty());
    client.shutdown().await.unwrap();
    metastore.end().await;
}

fn object(column: &str, column_type: &str, stats_data: ColumnStatisticsData) -> ColumnStatisticsObj {
    ColumnStatisticsObj { col_name: column.into(), col_type: column_type.into(), stats_data }
}

fn long(low: i64, high: i64, nulls: i64) -> ColumnStatisticsData {
    ColumnStatisticsData::LongStats(LongColumnStatsData {
        low_value: Some(low),
        high_value: Some(high),
        num_nulls: nulls,
        num_d_vs: 5,
        ..LongColumnStatsData::default()
    })
}

fn statistics(partition: Option<&str>, objects: Vec<ColumnStatisticsObj>) -> Option<Box<ColumnStatistics>> {
    let desc = ColumnStatisticsDesc {
        is_tbl_level: partition.is_none(),
        db_name: "@hive#web".into(),
        table_name: "T".into(),
        part_name: partition.map(str::to_owned),
        ..ColumnStatisticsDesc::default()
    };
    Some(Box::new(ColumnStatistics { stats_desc: desc, stats_obj: objects, ..ColumnStatistics::default() }))
}

#[tokio::test]
async fn statistics_of_tables_are_kept() {
    let metastore = Metastore::new().await;
    let mut client = metastore.client().await;
    make_web(&mut client).await;
    let mut wide = table("t");
    let columns =
        vec![column("id", "bigint"), column("x", "decimal(10,2)"), column("d", "date"), column("s", "string")];
    wide.sd.as_mut().unwrap().cols = Some(columns.into());
    make(&mut client, wide).await;
    let decimal = |bytes: &'static [u8]| Some(Decimal { unscaled: Bytes::from_static(bytes), scale: 2 });
    let decimals = DecimalColumnStatsData {
        low_value: decimal(&[0xff, 0x00]),
        high_value: decimal(&[0x01, 0x00]),
        num_nulls: 1,
        num_d_vs: 2,
        ..DecimalColumnStatsData::default()
    };
    let dates = DateColumnStatsData {
        low_value: Some(Date { days_since_epoch: 19_000 }),
        high_value: Some(Date { days_since_epoch: 19_001 }),
        num_nulls: 0,
        num_d_vs: 2,
        ..DateColumnStatsData::default()
    };
    let objects = vec![
        object("d", "date", ColumnStatisticsData::DateStats(dates)),
        object("id", "bigint", long(-1, 9, 3)),
        object("x", "decimal(10,2)", ColumnStatisticsData::DecimalStats(decimals)),
    ];
    let args = UpdateTableColumnStatisticsArgs { stats_obj: statistics(None, objects.clone()) };
    assert!(client.update_table_column_statistics(args).await.unwrap());
    let request = TableStatsRequest {
        db_name: "web".into(),
        tbl_name: "t".into(),
        col_names: texts(&["ID", "x", "d", "s", "nope"]),
        ..TableStatsRequest::default()
    };
    let args = GetTableStatisticsReqArgs { request: Some(request) };
    assert_eq!(client.get_table_statistics_req(args.clone()).await.unwrap().table_stats, objects);
    let one =
        |name: &str| GetTableColumnStatisticsArgs { db_name: text("web"), tbl_name: text("t"), col_name: text(name) };
    assert_eq!(client.get_table_column_statistics(one("id")).await.unwrap().stats_obj, objects[1..2]);
    assert!(matches!(exception(client.get_table_column_statistics(one("s")).await), Exception::NoSuchObject(_)));
    let delete = DeleteTableColumnStatisticsArgs {
        db_name: text("web"),
        tbl_name: text("t"),
        col_name: text("x"),
        engine: None,
    };
    assert!(client.delete_table_column_statistics(delete.clone()).await.unwrap());
    let missing = exception(client.delete_table_column_statistics(delete).await);
    assert!(matches!(missing, Exception::NoSuchObject(_)), "{missing}");
    assert_eq!(client.get_table_statistics_req(args).await.unwrap().table_stats, objects[..2]);
}

#[tokio::test]
async fn statistics_of_partitions_are_kept_and_added_up() {
    let metastore = Metastore::new().await;
    let mut client = metastore.client().await;
    make_web(&mut client).await;
    make(&mut client, Table { partition_keys: Some(vec![column("ds", "string")]), ..table("t") }).await;
    for (day, low, high) in [("1", -5, 3), ("2", 0, 8)] {
        client.add_partition(AddPartitionArgs { new_part: Some(partition("t", &[day])) }).await.unwrap();
        let name = format!("ds={day}");
        let stats_obj = statistics(Some(&name), vec![object("id", "bigint", long(low, high, 2))]);
        assert!(
            client.update_partition_column_statistics(UpdatePartitionColumnStatisticsArgs { stats_obj }).await.unwrap()
        );
    }
    let request = PartitionsStatsRequest {
        db_name: "web".into(),
        tbl_name: "t".into(),
        col_names: texts(&["id"]),
        part_names: texts(&["ds=2", "ds=1", "ds=nope"]),
        ..PartitionsStatsRequest::default()
    };
    let args = GetPartitionsStatisticsReqArgs { request: Some(request.clone()) };
    let found = client.get_partitions_statistics_req(args).await.unwrap().part_stats;
    assert_eq!(found.keys().collect::<Vec<_>>(), ["ds=1", "ds=2"]);
    assert_eq!(found["ds=2"], [object("id", "bigint", long(0, 8, 2))]);
    let aggregate = client.get_aggr_stats_for(GetAggrStatsForArgs { request: Some(request) }).await.unwrap();
    assert_eq!((aggregate.parts_found, aggregate.col_stats), (2, vec![object("id", "bigint", long(-5, 8, 4))]));
    let delete = DeletePartitionColumnStatisticsArgs {
        db_name: text("web"),
        tbl_name: text("t"),
        part_name: text("ds=1"),
        col_name: text("id"),
        engine: None,
    };
    assert!(client.delete_partition_column_statistics(delete).await.unwrap());
}

#[tokio::test]
async fn functions_are_kept() {
    let metastore = Metastore::new().await;
    let mut client = metastore.client().await;
    make_web(&mut client).await;
    let jar = ResourceUri { resource_type: Some(ResourceType::JAR), uri: text("s3://code/a.jar") };
    let given = Function {
        function_name: text("MyFn"),
        db_name: text("web"),
        class_name: text("org.example.Fn"),
        owner_name: text("ada"),
        owner_type: Some(PrincipalType::USER),
        function_type: Some(FunctionType::JAVA),
        resource_uris: Some(vec![jar]),
        ..Function::default()
    };
    client.create_function(CreateFunctionArgs { func: Some(given.clone()) }).await.unwrap();
    let twice = exception(client.create_function(CreateFunctionArgs { func: Some(given.clone()) }).await);
    assert!(matches!(twice, Exception::AlreadyExists(_)), "{twice}");
    let named = |name: &str| GetFunctionArgs { db_name: text("web"), func_name: text(name) };
    let found = client.get_function(named("MYFN")).await.unwrap();
    let create_time = i32::try_from(metastore.clock.unix_s()).ok();
    let expected = Function { function_name: text("myfn"), create_time, cat_name: text("hive"), ..given };
    assert_eq!(found, expected);
    let args = GetFunctionsArgs { db_name: text("web"), pattern: text("*") };
    assert_eq!(client.get_functions(args).await.unwrap(), ["myfn"]);
    assert_eq!(client.get_all_functions().await.unwrap().functions, Some(vec![expected]));
    let missing = exception(client.get_function(named("NoPe")).await);
    assert_eq!(missing, NoSuchObjectException::new("Function web.NoPe does not exist").into());
    client.drop_function(DropFunctionArgs { db_name: text("web"), func_name: text("myfn") }).await.unwrap();
    assert_eq!(client.get_all_functions().await.unwrap().functions, Some(vec![]));
}

#[tokio::test]
async fn locks_wait_and_run_out() {
    let metastore = Metastore::new().await;
    let mut client = metastore.client().await;
    let component = LockComponent {
        r#type: LockType::EXCLUSIVE,
        level: LockLevel::TABLE,
        dbname: "@hive#Web".into(),
        tablename: text("NotThereYet"),
        ..LockComponent::default()
    };
    let request = LockRequest {
        component: vec![component],
        user: "ada".into(),
        hostname: "there".into(),
        agent_info: text("Iceberg-1"),
        ..LockRequest::default()
    };
    let lock = LockArgs { rqst: Some(request.clone()) };
    let first = client.lock(lock.clone()).await.unwrap();
    assert_eq!(first.state, LockState::ACQUIRED);
    let second = client.lock(lock.clone()).await.unwrap();
    assert_eq!(second.state, LockState::WAITING);
    let check = CheckLockRequest { lockid: second.lockid, ..CheckLockRequest::default() };
    let check = CheckLockArgs { rqst: Some(check) };
    assert_eq!(client.check_lock(check.clone()).await.unwrap().state, LockState::WAITING);
    let show = ShowLocksRequest { dbname: text("web"), tablename: text("notthereyet"), ..Default::default() };
    let shown = client.show_locks(ShowLocksArgs { rqst: Some(show) }).await.unwrap().locks.unwrap();
    assert_eq!(shown.iter().map(|lock| lock.lockid).collect::<Vec<_>>(), [first.lockid, second.lockid]);
    assert_eq!((shown[0].agent_info.as_deref(), shown[1].blocked_by_ext_id), (Some("Iceberg-1"), Some(first.lockid)));
    let unlock = UnlockArgs { rqst: Some(UnlockRequest { lockid: first.lockid }) };
    client.unlock(unlock.clone()).await.unwrap();
    // One that is not there any more is given back already.
    client.unlock(unlock).await.unwrap();
    assert_eq!(client.check_lock(check.clone()).await.unwrap().state, LockState::ACQUIRED);
    // It lives while it is renewed, and no longer.
    metastore.clock.advance_ms(200_000);
    let heartbeat = HeartbeatRequest { lockid: Some(second.lockid), txnid: Some(0) };
    client.heartbeat(HeartbeatArgs { ids: Some(heartbeat) }).await.unwrap();
    metastore.clock.advance_ms(200_000);
    assert_eq!(client.lock(lock.clone()).await.unwrap().state, LockState::WAITING);
    metastore.clock.advance_ms(300_001);
    assert_eq!(client.lock(lock).await.unwrap().state, LockState::ACQUIRED);
    let gone = exception(client.check_lock(check).await);
    assert_eq!(gone, NoSuchLockException::new(format!("No such lock lockid:{}", second.lockid)).into());
    let in_transaction = LockRequest { txnid: Some(7), ..request };
    let refused = exception(client.lock(LockArgs { rqst: Some(in_transaction) }).await);
    assert_eq!(refused, NoSuchTxnException::new("No such transaction txnid:7").into());
}
