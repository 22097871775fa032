//! How sessions plan for executors.

use std::sync::Arc;

use ballista_core::extension::SessionConfigExt;
use ballista_core::optimizer::ballista_default_optimizer_rules;
use datafusion::prelude::SessionConfig;
use datafusion_proto::physical_plan::PhysicalExtensionCodec;
use tereza_engine::cluster::Planning;

/// What must hold of every plan for executors, whatever a session has set. The first two let operators of one plan share
/// memory, and the operators would be in different processes: a scan would wait for a filter for ever, and a stage could not be
/// read. The third looks for counts at a place of the stage where batches are made compact.
const PINNED: [(&str, bool); 3] = [
    ("datafusion.optimizer.enable_dynamic_filter_pushdown", false),
    ("datafusion.optimizer.enable_physical_uncorrelated_scalar_subquery", false),
    ("ballista.planner.parallel_window.enabled", false),
];

/// Stages that join what one of them has less of than this hash it; the others sort both sides, which spills.
const PREFER_HASH_JOIN: (&str, bool) = ("datafusion.optimizer.prefer_hash_join", true);

/// Below these a build side is hashed as a whole by every task, or by partitions. Ballista's own bounds (a million rows where the
/// bytes are not known, and 64 MiB a partition) have it shuffle and sort tens of millions of rows for the sake of a few.
const HASHED: [(&str, usize); 2] = [
    ("ballista.optimizer.broadcast_join_threshold_rows", 4_000_000),
    ("ballista.optimizer.hash_join_max_build_partition_bytes", 1 << 30),
];

/// The same for a statement whose hash tables did not fit: it sorts what is known to be large, or with the static planner all
/// but `NOT IN`, which only a hash join knows.
pub(crate) const SORTED: [(&str, &str); 4] = [
    ("datafusion.optimizer.prefer_hash_join", "false"),
    ("ballista.optimizer.broadcast_join_threshold_bytes", "1048576"),
    ("ballista.optimizer.broadcast_join_threshold_rows", "0"),
    ("ballista.optimizer.hash_join_max_build_partition_bytes", "1"),
];

/// Plans without looking at what earlier stages made: slower, but it can plan what the adaptive planner cannot. It makes
/// partitions of a join that DataFusion has hashed as a whole, where what is above counts on one partition: the rows of the
/// others would be lost. So DataFusion hashes none as a whole, and the planner itself those that are small.
pub(crate) const STATIC_PLANNER: [(&str, &str); 4] = [
    ("datafusion.optimizer.repartition_joins", "true"),
    ("ballista.planner.adaptive.enabled", "false"),
    ("datafusion.optimizer.hash_join_single_partition_threshold", "0"),
    ("datafusion.optimizer.hash_join_single_partition_threshold_rows", "0"),
];

/// A session's settings, rules and id for plans that run on `slots` tasks at once.
pub(crate) fn planning(
    config: SessionConfig,
    slots: usize,
    session_id: &str,
    codec: Arc<dyn PhysicalExtensionCodec>,
    message_limit_bytes: u32,
) -> Planning {
    let mut config = config
        .upgrade_for_ballista()
        .with_round_robin_repartition(false)
        .with_target_partitions(slots.max(1))
        .with_ballista_physical_extension_codec(codec)
        .with_ballista_grpc_client_max_message_size(message_limit_bytes as usize);
    for (key, value) in PINNED.into_iter().chain([PREFER_HASH_JOIN]) {
        config = config.set_bool(key, value);
    }
    for (key, value) in HASHED {
        config = config.set_usize(key, value);
    }
    Planning { config, rules: ballista_default_optimizer_rules(), session_id: session_id.to_owned() }
}
