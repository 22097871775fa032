//! Serves a registry out of a SQLite file, until it is told to end by the end of its input:
//! `cargo run -p tereza-registry --example registry -- FOLDER [PORT]`.

use std::sync::Arc;

use tereza_catalog::SqliteStore;
use tereza_registry::{Service, rest, service};
use tereza_runtime::clock::Clock;
use tereza_runtime::{Error, Result};
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Bytes of the input that are read at once; what they say does not matter.
const READ_BYTES: usize = 64;

#[tokio::main]
async fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().ok_or_else(|| Error::invalid_input("name the folder of the registry"))?;
    let port = arguments.next().unwrap_or_else(|| "0".to_owned());
    std::fs::create_dir_all(&folder).map_err(|error| Error::io(format_args!("make {folder}"), error))?;
    let store = SqliteStore::open(std::path::Path::new(&folder).join("catalog.db"), Clock::system()).await?;
    let address = format!("127.0.0.1:{port}");
    let listener =
        TcpListener::bind(&address).await.map_err(|error| Error::io(format_args!("listen on {address}"), error))?;
    let address = listener.local_addr().map_err(|error| Error::io("find the address", error))?;
    println!("http://{address}");
    let drain = CancellationToken::new();
    let service = Service::new(Arc::new(store.clone()), service::Settings::default());
    let serving = rest::serve(listener, service, rest::Settings::default(), drain.clone());
    let ending = async {
        let mut input = tokio::io::stdin();
        let mut bytes = [0; READ_BYTES];
        while input.read(&mut bytes).await.is_ok_and(|read| read > 0) {}
        drain.cancel();
    };
    let (served, ()) = tokio::join!(serving, ending);
    store.close().await;
    served
}
