//! A metastore's names copied into another catalog.

use std::sync::Arc;

use tereza_catalog::hive::Remote;
use tereza_catalog::import::{Imported, import};
use tereza_catalog::{SqliteStore, Store};
use tereza_runtime::ErrorKind;
use tereza_thrift::client;
use tereza_thrift::hive::*;

use crate::support::*;

struct Copy {
    store: Arc<SqliteStore>,
    remote: Remote,
}

impl Copy {
    async fn of(metastore: &Metastore) -> Self {
        let path = metastore.folder.path().join("copy.db");
        let store = Arc::new(SqliteStore::open(path, metastore.clock.clone()).await.unwrap());
        let remote = Remote::new(&format!("thrift://{}", metastore.address), client::Settings::default()).unwrap();
        Self { store, remote }
    }

    async fn import(&self, databases: &[&str]) -> tereza_runtime::Result<Imported> {
        let databases: Vec<String> = databases.iter().map(|name| (*name).to_owned()).collect();
        import(&self.remote, self.store.as_ref(), &databases, &mut |_, _| {}).await
    }
}

fn day(n: usize) -> String {
    format!("2024-{:02}-{:02}", n / 28 + 1, n % 28 + 1)
}

#[tokio::test]
async fn all_names_are_copied_and_again_only_what_is_new() {
    let metastore = Metastore::new().await;
    let mut client = metastore.client().await;
    make_web(&mut client).await;
    make(&mut client, partitioned_table("events")).await;
    let view = Table {
        table_type: text("VIRTUAL_VIEW"),
        view_original_text: text("SELECT 1"),
        view_expanded_text: text("SELECT 1"),
        ..partitioned_table("seen")
    };
    make(&mut client, Table { partition_keys: None, ..view }).await;
    let new_parts = (0..40).map(|n| partition("events", &[&day(n), "7", "2024-02-29"])).collect();
    client.add_partitions(AddPartitionsArgs { new_parts: Some(new_parts) }).await.unwrap();

    let copy = Copy::of(&metastore).await;
    let first = copy.import(&[]).await.unwrap();
    assert_eq!((first.databases, first.tables, first.partitions), (2, 2, 40), "{first:?}");
    assert_eq!((first.known, &first.different[..], &first.problems[..]), (0, &[][..], &[][..]));
    let (copied, original) = (copy.store.as_ref(), metastore.store().await);
    for name in ["default", "web"] {
        assert_eq!(copied.database(name).await.unwrap(), original.database(name).await.unwrap());
        assert_eq!(copied.tables(name).await.unwrap(), original.tables(name).await.unwrap());
    }
    for name in ["events", "seen"] {
        assert_eq!(copied.table("web", name).await.unwrap().table, original.table("web", name).await.unwrap().table);
    }
    let all = Default::default();
    let partitions = copied.partitions("web", "events", &all, None).await.unwrap();
    assert_eq!(partitions, original.partitions("web", "events", &all, None).await.unwrap());

    let new_parts = Some(vec![partition("events", &["x/y=z", "7", "2024-02-29"])]);
    client.add_partitions(AddPartitionsArgs { new_parts }).await.unwrap();
    make(&mut client, partitioned_table("later")).await;
    let again = copy.import(&["WEB"]).await.unwrap();
    assert_eq!((again.databases, again.tables, again.partitions), (0, 1, 1), "{again:?}");
    assert_eq!((again.known, &again.different[..], &again.problems[..]), (3, &[][..], &[][..]));

    let mut changed = copied.table("web", "seen").await.unwrap().table;
    changed.view_original_text = Some("SELECT 2".to_owned());
    copied.alter_table("web", "seen", None, &changed).await.unwrap();
    let differing = copy.import(&[]).await.unwrap();
    assert_eq!(differing.different, ["table web.seen"]);
    assert_eq!(copied.table("web", "seen").await.unwrap().table.view_original_text.as_deref(), Some("SELECT 2"));
}

#[tokio::test]
async fn what_cannot_be_reached_or_is_not_there_is_said() {
    let metastore = Metastore::new().await;
    let copy = Copy::of(&metastore).await;
    let error = copy.import(&["nope"]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().contains("no database nope"), "{error}");
    let address = metastore.address;
    metastore.end().await;
    let error = copy.import(&[]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains(&address.to_string()), "{error}");
}
