//! Makes the types, the server trait, the dispatch and the client of the Hive Metastore from the files in `idl/`.
//!
//! `build/idl.rs` reads the interface language, `build/emit.rs` writes Rust. The result is `hive.rs` in `OUT_DIR`, which
//! `src/hive.rs` includes.

#[path = "build/emit.rs"]
mod emit;
#[path = "build/idl.rs"]
mod idl;

use std::path::Path;

/// The base service comes first: its methods are part of the one that extends it.
const FILES: [&str; 2] = ["idl/fb303.thrift", "idl/hive_metastore.thrift"];

fn main() -> Result<(), String> {
    let out = std::env::var("OUT_DIR").map_err(|error| format!("OUT_DIR: {error}"))?;
    let mut all = idl::Document::default();
    for path in FILES {
        println!("cargo::rerun-if-changed={path}");
        let text = std::fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))?;
        let document = idl::parse(&text).map_err(|error| format!("{path}: {error}"))?;
        all.enums.extend(document.enums);
        all.records.extend(document.records);
        all.services.extend(document.services);
    }
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=build");
    let code = emit::rust(&all)?;
    std::fs::write(Path::new(&out).join("hive.rs"), code).map_err(|error| format!("hive.rs: {error}"))
}
