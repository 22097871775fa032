//! Serves a catalog in a folder as a Hive Metastore, until it is told to end by the end of its input:
//! `cargo run -p tereza-catalog --example metastore -- FOLDER [PORT]`.
//!
//! Files of tables are local, below `FOLDER/warehouse`. Each method that clients ask for and that is not there is printed.

use std::collections::BTreeSet;
use std::fs;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tereza_catalog::hive::{self, LocalFiles};
use tereza_catalog::{SqliteStore, Store};
use tereza_runtime::clock::Clock;
use tereza_runtime::{Error, Result};
use tereza_thrift::call::Outcome;
use tereza_thrift::server::Observer;
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Bytes of the input that are read at once; what they say does not matter.
const READ_BYTES: usize = 64;

/// Prints each missing method once.
#[derive(Default)]
struct Missing(Mutex<BTreeSet<&'static str>>);

impl Observer for Missing {
    fn called(&self, method: &'static str, outcome: Outcome, took: Duration) {
        if std::env::var_os("TEREZA_TRACE").is_some() {
            eprintln!("{method} {} {took:?}", outcome.as_str());
        }
        if outcome == Outcome::UnknownMethod && self.0.lock().insert(method) {
            eprintln!("not there: {method}");
        }
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().ok_or_else(|| Error::invalid_input("name the folder of the catalog"))?;
    let port = arguments.next().unwrap_or_else(|| "0".to_owned());
    let folder = std::path::absolute(&folder).map_err(|error| Error::io(format_args!("find {folder}"), error))?;
    let warehouse = folder.join("warehouse");
    fs::create_dir_all(&warehouse).map_err(|error| Error::io(format_args!("make {}", warehouse.display()), error))?;
    let store = SqliteStore::open(folder.join("catalog.db"), Clock::system()).await?;
    // Below the folder that the catalog is in would be the catalog too.
    let files = Arc::new(LocalFiles::below(&warehouse));
    let warehouse = format!("file:{}", warehouse.display());
    let default = store.database("default").await?;
    store
        .alter_database("default", &tereza_catalog::model::Database { location: warehouse.clone(), ..default })
        .await?;

    let address = format!("127.0.0.1:{port}");
    let listener =
        TcpListener::bind(&address).await.map_err(|error| Error::io(format_args!("listen on {address}"), error))?;
    let address = listener.local_addr().map_err(|error| Error::io("find the address", error))?;
    println!("thrift://{address}");
    let drain = CancellationToken::new();
    let settings = hive::Settings { warehouse, ..hive::Settings::default() };
    let serving =
        hive::serve_observed(listener, Arc::new(store.clone()), files, settings, Missing::default(), drain.clone());
    let ending = async {
        let mut input = tokio::io::stdin();
        let mut bytes = [0; READ_BYTES];
        while input.read(&mut bytes).await.is_ok_and(|read| read > 0) {}
        drain.cancel();
    };
    tokio::join!(serving, ending);
    store.close().await;
    Ok(())
}
