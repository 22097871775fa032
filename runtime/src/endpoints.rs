//! The addresses a process serves: all are bound before anything else is done, then told to people (one line each) and
//! to programs (`<data>/endpoints.json`).

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;

use crate::{Error, Result};

/// The file in the data folder.
pub const FILE_NAME: &str = "endpoints.json";

/// What `endpoints.json` holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointsFile {
    /// The process that serves them; if another one (or none) has the folder's lock, the file is old.
    pub pid: u32,
    /// URL by name: `flight_sql`, `console`.
    pub endpoints: BTreeMap<String, String>,
}

/// Reads what a process told in the data folder; `None` if there is nothing that can be read.
pub fn read(data: &Path) -> Option<EndpointsFile> {
    serde_json::from_slice(&std::fs::read(data.join(FILE_NAME)).ok()?).ok()
}

/// The addresses of this process, in the order in which they were bound.
#[derive(Debug)]
pub struct Endpoints {
    ip: IpAddr,
    bound: Vec<Endpoint>,
}

/// One address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Its name, which is that of its port's setting: `listen.<name>`.
    pub name: &'static str,
    /// Scheme, address and port for a client on this machine.
    pub url: String,
}

impl Endpoints {
    /// None yet; all are to be bound on `ip`.
    pub fn new(ip: IpAddr) -> Self {
        Self { ip, bound: Vec::new() }
    }

    /// Binds a port (0: any free one); `Unavailable` names the address and its setting.
    pub async fn bind(&mut self, name: &'static str, scheme: &str, port: u16) -> Result<TcpListener> {
        let wanted = SocketAddr::new(self.ip, port);
        let failed = |error: io::Error| {
            let hint = match error.kind() {
                io::ErrorKind::AddrNotAvailable => "set listen.ip to an address of this machine".to_owned(),
                _ => format!("end what uses it, or set listen.{name} to another port (0: any free one)"),
            };
            Error::unavailable(format!("{wanted} cannot be bound for {name}: {error}"))
                .with_hint(hint)
                .with_source(error)
        };
        let listener = TcpListener::bind(wanted).await.map_err(failed)?;
        let address = reachable(listener.local_addr().map_err(failed)?);
        self.bound.push(Endpoint { name, url: format!("{scheme}://{address}") });
        Ok(listener)
    }

    /// What was bound.
    pub fn bound(&self) -> &[Endpoint] {
        &self.bound
    }

    /// Writes one line per endpoint.
    pub fn print(&self, out: &mut impl Write) -> io::Result<()> {
        let width = self.bound.iter().map(|endpoint| endpoint.name.len()).max().unwrap_or_default();
        for Endpoint { name, url } in &self.bound {
            writeln!(out, "{name:width$}  {url}")?;
        }
        out.flush()
    }

    /// Writes `endpoints.json` into the data folder in one step; it is removed when the returned guard is dropped.
    pub fn publish(&self, data: &Path) -> Result<Published> {
        let endpoints = self.bound.iter().map(|endpoint| (endpoint.name.to_owned(), endpoint.url.clone())).collect();
        let file = EndpointsFile { pid: std::process::id(), endpoints };
        let text = serde_json::to_string_pretty(&file)
            .map_err(|error| Error::internal("the endpoints cannot be written as JSON").with_source(error))?;
        let path = data.join(FILE_NAME);
        let staged = data.join(format!("{FILE_NAME}.new"));
        std::fs::write(&staged, text + "\n")
            .and_then(|()| std::fs::rename(&staged, &path))
            .map_err(|error| Error::io(format!("'{}' cannot be written", path.display()), error))?;
        Ok(Published { path })
    }
}

/// Removes `endpoints.json` when dropped.
#[derive(Debug)]
pub struct Published {
    path: PathBuf,
}

impl Drop for Published {
    fn drop(&mut self) {
        // If it stays it does no harm: its process id is that of no living holder of the lock.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Where a client on this machine reaches a socket that may be bound on every address.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    fn loopback() -> Endpoints {
        Endpoints::new(Ipv4Addr::LOCALHOST.into())
    }

    #[tokio::test]
    async fn a_taken_port_is_named_with_its_setting() {
        let mut endpoints = loopback();
        let console = endpoints.bind("console", "http", 0).await.unwrap();
        let taken = console.local_addr().unwrap();
        let error = endpoints.bind("flight_sql", "http", taken.port()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        let text = error.to_string();
        assert!(text.contains(&format!("{taken} cannot be bound for flight_sql")), "{text}");
        assert!(text.contains("set listen.flight_sql to another port"), "{text}");
        assert_eq!(endpoints.bound().len(), 1);
    }

    #[tokio::test]
    async fn what_is_told_is_what_was_bound_and_goes_away() {
        let dir = tempfile::tempdir().unwrap();
        let mut endpoints = loopback();
        let console = endpoints.bind("console", "http", 0).await.unwrap();
        let _flight = endpoints.bind("flight_sql", "http", 0).await.unwrap();
        let url = format!("http://{}", console.local_addr().unwrap());

        let mut lines = Vec::new();
        endpoints.print(&mut lines).unwrap();
        let lines = String::from_utf8(lines).unwrap();
        assert!(lines.starts_with(&format!("console     {url}\nflight_sql  http://127.0.0.1:")), "{lines}");

        let published = endpoints.publish(dir.path()).unwrap();
        let file = read(dir.path()).unwrap();
        assert_eq!((file.pid, file.endpoints.get("console")), (std::process::id(), Some(&url)));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left of writing it");
        drop(published);
        assert_eq!(read(dir.path()), None);
    }

    #[test]
    fn every_address_is_reached_by_loopback() {
        assert_eq!(reachable("0.0.0.0:5".parse().unwrap()).to_string(), "127.0.0.1:5");
        assert_eq!(reachable("[::]:5".parse().unwrap()).to_string(), "[::1]:5");
        assert_eq!(reachable("10.0.0.1:5".parse().unwrap()).to_string(), "10.0.0.1:5");
    }
}
