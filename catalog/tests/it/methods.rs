//! What is asked of a metastore besides its nouns: owners and skewed values that are kept, catalogs, transactions,
//! notifications, and what is refused.

use tereza_thrift::codec::Set;
use tereza_thrift::hive::*;

use crate::support::*;

#[tokio::test]
async fn owners_and_skewed_values_are_kept() {
    let metastore = Metastore::new().await;
    let mut client = metastore.client().await;
    let database = Database_ {
        name: text("web"),
        owner_name: text("staff"),
        owner_type: Some(PrincipalType::GROUP),
        ..Database_::default()
    };
    client.create_database(CreateDatabaseArgs { database: Some(database) }).await.unwrap();
    let found = client.get_database(GetDatabaseArgs { name: text("web") }).await.unwrap();
    assert_eq!(found.owner_type, Some(PrincipalType::GROUP));
    let given = SkewedInfo {
        skewed_col_names: Some(texts(&["id"])),
        skewed_col_values: Some(vec![texts(&["1"]), texts(&["2"])]),
        skewed_col_value_location_maps: Some([(texts(&["2"]), "file:/elsewhere/2".to_owned())].into()),
    };
    let mut skewed = Table { owner_type: Some(PrincipalType::ROLE), ..partitioned_table("t") };
    skewed.sd.as_mut().unwrap().skewed_info = Some(given.clone());
    make(&mut client, skewed).await;
    let found = get(&mut client, "t").await;
    assert_eq!(found.owner_type, Some(PrincipalType::ROLE));
    assert_eq!(found.sd.as_ref().unwrap().skewed_info.as_ref(), Some(&given));
    let meta = GetTableMetaArgs { db_patterns: text("web"), tbl_patterns: text("*"), tbl_types: None };
    assert_eq!(client.get_table_meta(meta).await.unwrap()[0].owner_type, Some(PrincipalType::ROLE));
    // A partition that has all from its table has these too.
    client.add_partition(AddPartitionArgs { new_part: Some(partition("t", &["a", "1", "2024-01-01"])) }).await.unwrap();
    let none = SkewedInfo { skewed_col_value_location_maps: Some([].into()), ..given };
    let mut new = found;
    new.sd.as_mut().unwrap().skewed_info = Some(none.clone());
    let alter = AlterTableArgs { dbname: text("web"), tbl_name: text("t"), new_tbl: Some(new) };
    client.alter_table(alter).await.unwrap();
    assert_eq!(get(&mut client, "t").await.sd.unwrap().skewed_info, Some(none));
    let drop = DropTableArgs { dbname: text("web"), name: text("t"), delete_data: Some(true) };
    client.drop_table(drop).await.unwrap();
    metastore.end().await;
}

#[tokio::test]
async fn nobody_has_a_transaction() {
    let metastore = Metastore::new().await;
    let mut client = metastore.client().await;
    assert_eq!(client.get_open_txns().await.unwrap(), GetOpenTxnsResponse::default());
    assert_eq!(client.get_open_txns_req(GetOpenTxnsReqArgs::default()).await.unwrap(), GetOpenTxnsResponse::default());
    assert_eq!(client.get_open_txns_info().await.unwrap(), GetOpenTxnsInfoResponse::default());
    let compacts = client.show_compact(ShowCompactArgs::default()).await.unwrap().compacts;
    assert!(compacts.is_empty());
    let rqst = GetValidWriteIdsRequest { full_table_names: texts(&["web.t"]), ..Default::default() };
    let valid = client.get_valid_write_ids(GetValidWriteIdsArgs { rqst: Some(rqst) }).await.unwrap();
    let valid = &valid.tbl_valid_write_ids[0];
    assert_eq!((valid.full_table_name.as_str(), valid.write_id_high_water_mark), ("web.t", 0));
    let range = |min, max| HeartbeatTxnRangeArgs { txns: Some(HeartbeatTxnRangeRequest { min, max }) };
    let renewed = client.heartbeat_txn_range(range(1, 2)).await.unwrap();
    assert_eq!((renewed.aborted, renewed.nosuch), (Set(vec![]), Set(vec![1, 2])));
    assert!(client.heartbeat_txn_range(range(i64::MIN, i64::MAX)).await.is_err());

    let missing = Exception::from(NoSuchTxnException::new("No such transaction txnid:7"));
    let rqst = Some(AbortTxnRequest { txnid: 7, ..Default::default() });
    assert_eq!(exception(client.abort_txn(AbortTxnArgs { rqst }).await), missing);
    let rqst = Some(AbortTxnsRequest { txn_ids: vec![7], ..Default::default() });
    assert_eq!(exception(client.abort_txns(AbortTxnsArgs { rqst }).await), missing);
    let rqst = Some(CommitTxnRequest { txnid: 7, ..Default::default() });
    assert_eq!(exception(client.commit_txn(CommitTxnArgs { rqst }).await), missing);
    let rqst = Some(AddDynamicPartitions { txnid: 7, ..Default::default() });
    assert_eq!(exception(client.add_dynamic_partitions(AddDynamicPartitionsArgs { rqst }).await), missing);
    let refused = exception(client.allocate_table_write_ids(AllocateTableWriteIdsArgs::default()).await);
    assert!(matches!(&refused, Exception::Meta(_)) && refused.to_string().contains("ACID tables"), "{refused}");
    let refused = exception(client.compact2(Compact2Args::default()).await);
    assert!(refused.to_string().contains("ACID tables"), "{refused}");
    metastore.end().await;
}

#[tokio::test]
async fn there_is_one_catalog() {
    let metastore = Metastore::new().await;
    let mut client = metastore.client().await;
    let id = client.get_metastore_db_uuid().await.unwrap();
    assert!(!id.is_empty());
    assert_eq!(client.get_metastore_db_uuid().await.unwrap(), id);
    let refused = exception(client.create_catalog(CreateCatalogArgs::default()).await);
    assert!(matches!(&refused, Exception::Meta(_)) && refused.to_string().contains("catalogs"), "{refused}");
    assert!(matches!(exception(client.alter_catalog(AlterCatalogArgs::default()).await), Exception::Meta(_)));
    let drop_of =
        |name: &str| DropCatalogArgs { cat_name: Some(DropCatalogRequest { name: text(name), ..Default::default() }) };
    let refused = exception(client.drop_catalog(drop_of("hive")).await);
    assert_eq!(refused, MetaException::new("Can not drop hive catalog").into());
    let missing = exception(client.drop_catalog(drop_of("spark")).await);
    assert_eq!(missing, NoSuchObjectException::new("No catalog spark").into());
    let refused = exception(client.get_delegation_token(GetDelegationTokenArgs::default()).await);
    assert!(refused.to_string().contains("Kerberos"), "{refused}");
    let index =
        DropIndexByNameArgs { db_name: text("web"), tbl_name: text("T"), index_name: text("i"), delete_data: None };
    let missing = exception(client.drop_index_by_name(index).await);
    assert_eq!(missing, NoSuchObjectException::new("hive.web.t index=i not found").into());
    metastore.end().await;
}

#[tokio::test]
async fn a_table_is_not_emptied() {
    let metastore = Metastore::new().await;
    let mut client = metastore.client().await;
    make_web(&mut client).await;
    make(&mut client, table("t")).await;
    let truncate = |name: &str| TruncateTableArgs { db_name: text("web"), table_name: text(name), part_names: None };
    let refused = exception(client.truncate_table(truncate("t")).await);
    assert!(matches!(&refused, Exception::Meta(_)) && refused.to_string().contains("truncate_table"), "{refused}");
    let missing = exception(client.truncate_table(truncate("nope")).await);
    assert!(missing.to_string().contains("hive.web.nope table not found"), "{missing}");
    let req = Some(TruncateTableRequest { db_name: "web".into(), table_name: "t".into(), ..Default::default() });
    assert!(matches!(exception(client.truncate_table_req(TruncateTableReqArgs { req }).await), Exception::Meta(_)));
    metastore.end().await;
}

#[tokio::test]
async fn partitions_are_exchanged() {
    let metastore = Metastore::new().await;
    let mut client = metastore.client().await;
    make_web(&mut client).await;
    for name in ["a", "b"] {
        make(&mut client, partitioned_table(name)).await;
    }
    make(&mut client, table("other")).await;
    for values in [["x", "1", "2024-01-01"], ["x", "2", "2024-01-01"], ["y", "1", "2024-01-01"]] {
        client.add_partition(AddPartitionArgs { new_part: Some(partition("a", &values)) }).await.unwrap();
    }
    let exchange = |spec: &[(&str, &str)], to: &str| ExchangePartitionsArgs {
        partition_specs: Some(map(spec)),
        source_db: text("web"),
        source_table_name: text("A"),
        dest_db: text("@hive#web"),
        dest_table_name: text(to),
    };
    let refused = exception(client.exchange_partitions(exchange(&[("ds", "x")], "other")).await);
    let message = "The tables have different schemas. Their partitions cannot be exchanged.";
    assert_eq!(refused, MetaException::new(message).into());
    for spec in [("ds", "nope"), ("nope", "x")] {
        assert!(matches!(exception(client.exchange_partitions(exchange(&[spec], "b")).await), Exception::Meta(_)));
    }
    let given = client.exchange_partitions(exchange(&[("DS", "x"), ("k", "")], "b")).await.unwrap();
    let location = |own: &Partition| own.sd.as_ref().and_then(|sd| sd.location.clone()).unwrap();
    assert!(given.len() == 2 && given.iter().all(|own| location(own).contains("/a/ds=x/")), "no file was moved");
    let names = |name: &str| GetPartitionNamesArgs { db_name: text("web"), tbl_name: text(name), max_parts: Some(-1) };
    assert_eq!(client.get_partition_names(names("a")).await.unwrap(), ["ds=y/k=1/d=2024-01-01"]);
    assert_eq!(client.get_partition_names(names("b")).await.unwrap().len(), 2);
    // The folder of the one is not removed while the other has partitions in it.
    let drop = DropTableArgs { dbname: text("web"), name: text("a"), delete_data: Some(true) };
    client.drop_table(drop).await.unwrap();
    assert!(given.iter().all(|own| path(&location(own)).is_dir()));
    metastore.end().await;
}

#[tokio::test]
async fn notifications_are_those_of_a_listener() {
    let metastore = Metastore::new().await;
    let mut client = metastore.client().await;
    make_web(&mut client).await;
    make(&mut client, table("t")).await;
    assert_eq!(client.get_current_notification_event_id().await.unwrap().event_id, 0);
    let rqst = Some(NotificationEventRequest { last_event: 0, ..Default::default() });
    let found = client.get_next_notification(GetNextNotificationArgs { rqst }).await.unwrap();
    assert!(found.events.is_empty());
    let rqst = Some(NotificationEventsCountRequest { db_name: "web".into(), ..Default::default() });
    let count = client.get_notification_events_count(GetNotificationEventsCountArgs { rqst }).await.unwrap();
    assert_eq!(count.events_count, 0);
    let fire = |name: &str| FireListenerEventArgs {
        rqst: Some(FireEventRequest {
            successful: true,
            db_name: text("web"),
            table_name: text(name),
            ..Default::default()
        }),
    };
    assert_eq!(client.fire_listener_event(fire("T")).await.unwrap(), FireEventResponse::default());
    assert!(client.fire_listener_event(fire("nope")).await.is_err());
    metastore.end().await;
}
