//! Nothing but the test in `tests/avro.rs`: what another implementation says of the cases that the registry is tested with.
