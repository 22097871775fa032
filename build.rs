//! Links the program at one place in memory (`docs/decisions/0011-a-program-at-one-place.md`).

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    // Builds that ask for hardening by their own means are left alone.
    println!("cargo:rerun-if-env-changed=TEREZA_PIE");
    if std::env::var_os("CARGO_CFG_TARGET_OS").is_some_and(|system| system == "linux")
        && std::env::var_os("TEREZA_PIE").is_none_or(|value| value != "1")
    {
        println!("cargo:rustc-link-arg-bins=-no-pie");
    }
}
