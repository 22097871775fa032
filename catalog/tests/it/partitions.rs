use tereza_thrift::client::Client;
use tereza_thrift::hive::*;

use crate::support::*;

const NULL: &str = "__HIVE_DEFAULT_PARTITION__";

/// Makes `web.events` with partitions.
async fn make_events(client: &mut Client) {
    make_web(client).await;
    make(client, partitioned_table("events")).await;
    let values = [
        ["a", "1", "2024-01-01"],
        ["a", "2", "2024-01-02"],
        ["a", "10", "2024-02-01"],
        ["b", "1", "2024-01-01"],
        ["x/y=z", "3", "2024-03-01"],
        [NULL, NULL, NULL],
    ];
    let new_parts = Some(values.iter().map(|values| partition("events", values)).collect());
    assert_eq!(client.add_partitions(AddPartitionsArgs { new_parts }).await.unwrap(), 6);
}

fn names_ps(values: &[&str], max: i16) -> GetPartitionNamesPsArgs {
    GetPartitionNamesPsArgs {
        db_name: text("web"),
        tbl_name: text("events"),
        part_vals: Some(texts(values)),
        max_parts: Some(max),
    }
}

async fn names(client: &mut Client) -> Vec<String> {
    let args = GetPartitionNamesArgs { db_name: text("web"), tbl_name: text("events"), max_parts: Some(-1) };
    client.get_partition_names(args).await.unwrap()
}

fn of(values: &[&str]) -> GetPartitionArgs {
    GetPartitionArgs { db_name: text("web"), tbl_name: text("events"), part_vals: Some(texts(values)) }
}

#[tokio::test]
async fn partitions_are_found_by_values_and_names() {
    let metastore = Metastore::new().await;
    let mut client = metastore.client().await;
    make_events(&mut client).await;
    let table = get(&mut client, "events").await;
    let found = client.get_partition(of(&["x/y=z", "3", "2024-03-01"])).await.unwrap();
    let location = format!("{}/web.db/events/ds=x%2Fy%3Dz/k=3/d=2024-03-01", metastore.warehouse());
    assert!(path(&location).is_dir());
    assert_eq!(found.sd, Some(StorageDescriptor { location: Some(location), ..table.sd.unwrap() }));
    assert_eq!((found.db_name, found.table_name, found.cat_name), (text("web"), text("events"), text("hive")));
    let name = "ds=x%2Fy%3Dz/k=3/d=2024-03-01";
    let args = GetPartitionByNameArgs { db_name: text("web"), tbl_name: text("events"), part_name: text(name) };
    let by_name = client.get_partition_by_name(args).await.unwrap();
    assert_eq!(by_name.values, Some(texts(&["x/y=z", "3", "2024-03-01"])));
    let missing = exception(client.get_partition(of(&["9", "5", "1"])).await);
    assert_eq!(missing, NoSuchObjectException::new("partition values=[9, 5, 1]").into());
    let no_table = GetPartitionArgs { tbl_name: text("nope"), ..of(&["1"]) };
    let no_table = exception(client.get_partition(no_table).await);
    assert_eq!(no_table, NoSuchObjectException::new("hive.web.nope table not found").into());
    let names = Some(texts(&["ds=b/k=1/d=2024-01-01", "ds=nope/k=1/d=1", "K=1/ds=a/d=2024-01-01", "bad"]));
    let args = GetPartitionsByNamesArgs { db_name: text("web"), tbl_name: text("events"), names };
    let found = client.get_partitions_by_names(args).await.unwrap();
    let found: Vec<&str> = found.iter().map(|partition| partition.values.as_ref().unwrap()[0].as_str()).collect();
    assert_eq!(found, ["b", "a"]);
    let vals = client.partition_name_to_vals(PartitionNameToValsArgs { part_name: text(name) }).await.unwrap();
    assert_eq!(vals, ["x/y=z", "3", "2024-03-01"]);
    let spec = client.partition_name_to_spec(PartitionNameToSpecArgs { part_name: text(name) }).await.unwrap();
    assert_eq!(spec, map(&[("ds", "x/y=z"), ("k", "3"), ("d", "2024-03-01")]));
}

#[tokio::test]
async fn partitions_are_listed_by_their_first_values() {
    let metastore = Metastore::new().await;
    let mut client = metastore.client().await;
    make_events(&mut client).await;
    assert_eq!(names(&mut client).await.len(), 6);
    for (values, max, expected) in [
        (&["a"][..], -1, &["ds=a/k=1/d=2024-01-01", "ds=a/k=10/d=2024-02-01", "ds=a/k=2/d=2024-01-02"][..]),
        (&["", "1"], -1, &["ds=a/k=1/d=2024-01-01", "ds=b/k=1/d=2024-01-01"]),
        (&["a", "", "2024-01-02"], -1, &["ds=a/k=2/d=2024-01-02"]),
        (&[""], 1, &["ds=__HIVE_DEFAULT_PARTITION__/k=__HIVE_DEFAULT_PARTITION__/d=__HIVE_DEFAULT_PARTITION__"]),
        (&["a"], 0, &[]),
        (&["nope"], -1, &[]),
    ] {
        assert_eq!(client.get_partition_names_ps(names_ps(values, max)).await.unwrap(), expected, "{values:?}");
        let GetPartitionNamesPsArgs { db_name, tbl_name, part_vals, max_parts } = names_ps(values, max);
        let args = GetPartitionsPsArgs { db_name, tbl_name, part_vals, max_parts };
        assert_eq!(client.get_partitions_ps(args).await.unwrap().len(), expected.len());
    }
    let refused = exception(client.get_partition_names_ps(names_ps(&["1", "2", "3", "4"], -1)).await);
    assert!(matches!(refused, Exception::Meta(_)), "{refused}");
}

#[tokio::test]
async fn partitions_are_filtered_by_every_type() {
    let metastore = Metastore::new().await;
    let mut client = metastore.client().await;
    make_events(&mut client).await;
    for (filter, expected) in [
        ("", 6),
        ("ds = \"a\"", 3),
        ("(ds) in (\"a\", \"b\") and k = 1", 2),
        ("k > 1 and k <= 10", 3),
        ("d >= DATE '2024-01-02' or ds = 'b'", 4),
        ("d = 2024-01-01", 2),
        ("ds != 'a'", 3),
        ("ds like \"x.*\"", 1),
        ("k between 2 and 5", 2),
        ("ds is null", 1),
    ] {
        let args = GetPartitionsByFilterArgs {
            db_name: text("web"),
            tbl_name: text("events"),
            filter: text(filter),
            max_parts: Some(-1),
        };
        let found = client.get_partitions_by_filter(args.clone()).await.unwrap();
        assert_eq!(found.len(), expected, "{filter}");
        let one = GetPartitionsByFilterArgs { max_parts: Some(1), ..args };
        assert_eq!(client.get_partitions_by_filter(one).await.unwrap()[..], found[..1], "{filter}");
        let args =
            GetNumPartitionsByFilterArgs { db_name: text("web"), tbl_name: text("events"), filter: text(filter) };
        let count = client.get_num_partitions_by_filter(args).await.unwrap();
        assert_eq!(usize::try_from(count).unwrap(), expected);
        let args = GetPartSpecsByFilterArgs {
            db_name: text("web"),
            tbl_name: text("events"),
            filter: text(filter),
            max_parts: Some(-1),
        };
        let mut specs = client.get_part_specs_by_filter(args).await.unwrap();
        assert_eq!(specs.remove(0).partition_list.unwrap().partitions, Some(found));
    }
    let args = GetPartitionsByFilterArgs {
        db_name: text("web"),
        tbl_name: text("events"),
        filter: text("x = 1"),
        max_parts: None,
    };
    let message = "Specified key <x> is not a partitioning key for the table";
    assert_eq!(exception(client.get_partitions_by_filter(args).await), MetaException::new(message).into());
    let request = PartitionsByExprRequest {
        db_name: "web".into(),
        tbl_name: "events".into(),
        expr: b"java".as_slice().into(),
        ..Default::default()
    };
    let found = client.get_partitions_by_expr(GetPartitionsByExprArgs { req: Some(request) }).await.unwrap();
    assert_eq!((found.partitions.len(), found.has_unknown_partitions), (6, true));
    let request = PartitionValuesRequest {
        db_name: "web".into(),
        tbl_name: "events".into(),
        partition_keys: vec![column("ds", "string")],
        filter: text("k > 0"),
        ..Default::default()
    };
    let found = client.get_partition_values(GetPartitionValuesArgs { request: Some(request) }).await.unwrap();
    let rows: Vec<String> = found.partition_values.into_iter().flat_map(|row| row.row).collect();
    assert_eq!(rows, ["a", "b", "x/y=z"]);
}

#[tokio::test]
async fn adding_says_what_is_there_already() {
    let metastore = Metastore::new().await;
    let mut client = metastore.client().await;
    make_events(&mut client).await;
    let old = partition("events", &["a", "1", "2024-01-01"]);
    let new = partition("events", &["new", "1", "2024-01-01"]);
    let twice = exception(client.add_partition(AddPartitionArgs { new_part: Some(old.clone()) }).await);
    assert!(twice.to_string().starts_with("AlreadyExistsException: Partition already exists: "), "{twice}");
    let both = |if_not_exists| AddPartitionsRequest {
        db_name: "web".into(),
        tbl_name: "events".into(),
        parts: vec![old.clone(), new.clone()],
        if_not_exists,
        ..AddPartitionsRequest::default()
    };
    let refused = client.add_partitions_req(AddPartitionsReqArgs { request: Some(both(false)) }).await;
    assert!(matches!(exception(refused), Exception::AlreadyExists(_)));
    let added = client.add_partitions_req(AddPartitionsReqArgs { request: Some(both(true)) }).await.unwrap();
    let added = added.partitions.unwrap();
    assert_eq!(added.iter().map(|partition| &partition.values).collect::<Vec<_>>(), [&new.values]);
    let foreign = Partition { table_name: text("other"), ..new.clone() };
    make(&mut client, table("other")).await;
    let refused = client.add_partitions(AddPartitionsArgs { new_parts: Some(vec![new, foreign]) }).await;
    assert!(exception(refused).to_string().contains("Partition does not belong to target table hive.web.events"));
    let short = partition("events", &["a"]);
    let short = exception(client.add_partition(AddPartitionArgs { new_part: Some(short) }).await);
    assert!(matches!(short, Exception::Meta(_)), "{short}");
    let nowhere = partition("nope", &["a"]);
    let nowhere = exception(client.add_partition(AddPartitionArgs { new_part: Some(nowhere) }).await);
    assert!(matches!(nowhere, Exception::InvalidObject(_)), "{nowhere}");
    let args = AppendPartitionByNameArgs {
        db_name: text("web"),
        tbl_name: text("events"),
        part_name: text("ds=app/k=1/d=2024-01-01"),
    };
    let appended = client.append_partition_by_name(args).await.unwrap();
    assert_eq!(appended.values, Some(texts(&["app", "1", "2024-01-01"])));
    assert!(path(appended.sd.unwrap().location.as_deref().unwrap()).is_dir());
}

#[tokio::test]
async fn partitions_are_altered_and_renamed() {
    let metastore = Metastore::new().await;
    let mut client = metastore.client().await;
    make_events(&mut client).await;
    let old = client.get_partition(of(&["a", "1", "2024-01-01"])).await.unwrap();
    let mut changed = old.clone();
    changed.parameters.as_mut().unwrap().insert("numRows".into(), "7".into());
    let args = AlterPartitionArgs {
        db_name: text("web"),
        tbl_name: text("events"),
        new_part: Some(Partition { sd: None, ..changed.clone() }),
    };
    client.alter_partition(args.clone()).await.unwrap();
    assert_eq!(client.get_partition(of(&["a", "1", "2024-01-01"])).await.unwrap(), changed);
    let missing = Partition { values: Some(texts(&["q", "1", "2024-01-01"])), ..changed.clone() };
    let refused =
        exception(client.alter_partition(AlterPartitionArgs { new_part: Some(missing), ..args.clone() }).await);
    assert!(refused.to_string().contains("alter is not possible: partition values=[q, 1, 2024-01-01]"), "{refused}");

    let rename = |to: &[&str], new: &Partition| RenamePartitionArgs {
        db_name: text("web"),
        tbl_name: text("events"),
        part_vals: Some(texts(&["a", "1", "2024-01-01"])),
        new_part: Some(Partition { values: Some(texts(to)), ..new.clone() }),
    };
    let taken = exception(client.rename_partition(rename(&["b", "1", "2024-01-01"], &changed)).await);
    assert!(taken.to_string().contains("already exists"), "{taken}");
    // Engines write rows of the old values to its folder, whatever is there.
    let mixed = exception(client.rename_partition(rename(&["c", "1", "2024-01-01"], &changed)).await);
    assert!(mixed.to_string().contains("files would stay"), "{mixed}");
    changed.sd.as_mut().unwrap().location = Some(format!("{}/elsewhere", metastore.warehouse()));
    client.alter_partition(AlterPartitionArgs { new_part: Some(changed.clone()), ..args }).await.unwrap();
    client.rename_partition(rename(&["c", "1", "2024-01-01"], &changed)).await.unwrap();
    let renamed = client.get_partition(of(&["c", "1", "2024-01-01"])).await.unwrap();
    assert_eq!(renamed.sd, changed.sd, "its files stay where they are");
    assert!(!names(&mut client).await.contains(&"ds=a/k=1/d=2024-01-01".to_owned()));
    // One whose usual folder another has gets another.
    let (other, here) = (old.sd.unwrap().location.unwrap(), ["taker", "1", "2024-01-01"]);
    let mut taker = Partition { values: Some(texts(&here)), ..changed };
    taker.sd.as_mut().unwrap().location = Some(other.clone());
    client.add_partition(AddPartitionArgs { new_part: Some(taker) }).await.unwrap();
    let again = partition("events", &["a", "1", "2024-01-01"]);
    let again = client.add_partition(AddPartitionArgs { new_part: Some(again) }).await.unwrap();
    let location = again.sd.unwrap().location.unwrap();
    assert!(location.starts_with(&other) && location != other && path(&location).is_dir(), "{location}");
}

#[tokio::test]
async fn a_cascade_changes_the_columns_of_partitions() {
    let metastore = Metastore::new().await;
    let mut client = metastore.client().await;
    make_events(&mut client).await;
    let values = ["a", "1", "2024-01-01"];
    for (context, expected) in [(None, 2), (environment(&[("CASCADE", "true")]), 4)] {
        let mut table = get(&mut client, "events").await;
        let columns = table.sd.as_mut().unwrap().cols.as_mut().unwrap();
        columns.push(column(&format!("c{expected}"), "int"));
        let args = AlterTableWithEnvironmentContextArgs {
            dbname: text("web"),
            tbl_name: text("events"),
            new_tbl: Some(table),
            environment_context: context,
        };
        client.alter_table_with_environment_context(args).await.unwrap();
        let columns = client.get_partition(of(&values)).await.unwrap().sd.unwrap().cols.unwrap();
        assert_eq!(columns.len(), expected);
    }
}

#[tokio::test]
async fn dropped_partitions_take_their_files_along() {
    let metastore = Metastore::new().await;
    let mut client = metastore.client().await;
    make_events(&mut client).await;
    let location = client.get_partition(of(&["a", "1", "2024-01-01"])).await.unwrap().sd.unwrap().location.unwrap();
    let drop = |values: &[&str]| DropPartitionArgs {
        db_name: text("web"),
        tbl_name: text("events"),
        part_vals: Some(texts(values)),
        delete_data: Some(true),
    };
    assert!(client.drop_partition(drop(&["a", "1", "2024-01-01"])).await.unwrap());
    assert!(!path(&location).exists());
    let missing = exception(client.drop_partition(drop(&["a", "1", "2024-01-01"])).await);
    assert_eq!(missing, NoSuchObjectException::new("partition values=[a, 1, 2024-01-01]").into());
    let request = |if_exists| DropPartitionsRequest {
        db_name: "web".into(),
        tbl_name: "events".into(),
        parts: RequestPartsSpec::Names(texts(&["ds=a/k=2/d=2024-01-02", "ds=nope/k=1/d=1"])),
        if_exists: Some(if_exists),
        ..DropPartitionsRequest::default()
    };
    let refused = client.drop_partitions_req(DropPartitionsReqArgs { req: Some(request(false)) }).await;
    assert!(matches!(exception(refused), Exception::NoSuchObject(_)));
    let dropped = client.drop_partitions_req(DropPartitionsReqArgs { req: Some(request(true)) }).await.unwrap();
    assert_eq!(dropped.partitions.unwrap().len(), 1);
    assert_eq!(names(&mut client).await.len(), 4);
    let expression = DropPartitionsRequest { parts: RequestPartsSpec::Exprs(vec![]), ..request(true) };
    let refused = client.drop_partitions_req(DropPartitionsReqArgs { req: Some(expression) }).await;
    assert!(matches!(exception(refused), Exception::Meta(_)));
}

#[tokio::test]
async fn answers_share_a_memory() {
    let metastore = Metastore::with_answers_of(300_000).await;
    let mut client = metastore.client().await;
    make_web(&mut client).await;
    make(&mut client, partitioned_table("events")).await;
    let new_parts = (0..300).map(|n| Partition {
        parameters: Some(map(&[("text", &"x".repeat(1_000))])),
        ..partition("events", &[&n.to_string(), "1", "2024-01-01"])
    });
    client.add_partitions(AddPartitionsArgs { new_parts: Some(new_parts.collect()) }).await.unwrap();
    let get = |max| GetPartitionsArgs { db_name: text("web"), tbl_name: text("events"), max_parts: Some(max) };
    let refused = exception(client.get_partitions(get(-1)).await);
    assert!(refused.to_string().contains("answers_limit_bytes"), "{refused}");
    // Each answer gives back what it took when it is sent, also one that was refused.
    let mut other = metastore.client().await;
    for _ in 0..10 {
        assert_eq!(client.get_partitions(get(50)).await.unwrap().len(), 50);
        assert_eq!(other.get_partitions(get(50)).await.unwrap().len(), 50);
    }
}
