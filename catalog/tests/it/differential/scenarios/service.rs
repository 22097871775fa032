//! The service itself, and its settings.

use tereza_thrift::hive::*;

use super::Asking;
use crate::support::{text, texts};

pub(super) async fn play(to: &mut Asking) {
    to.ask(GetNameArgs {}).await;
    to.ask(GetVersionArgs {}).await;
    to.ask(GetStatusArgs {}).await;
    to.ask(GetStatusDetailsArgs {}).await;
    to.ask(GetCountersArgs {}).await;
    to.ask(GetCounterArgs { key: text("calls") }).await;
    to.ask(SetOptionArgs { key: text("a"), value: text("b") }).await;
    to.ask(GetOptionArgs { key: text("a") }).await;
    to.ask(GetOptionArgs { key: text("missing") }).await;
    to.ask(GetOptionsArgs {}).await;
    to.ask(GetCpuProfileArgs { profile_duration_in_sec: Some(1) }).await;
    to.ask(AliveSinceArgs {}).await;
    to.ask(ReinitializeArgs {}).await;

    to.ask(SetUgiArgs { user_name: text("ada"), group_names: Some(texts(&["staff", "wheel"])) }).await;
    to.ask(SetUgiArgs { user_name: text("ada"), group_names: Some(Vec::new()) }).await;
    for name in ["hive.no.such.key", "mapred.no.such.key", "hdfs.no.such.key", "metastore.no.such.key", "hive.a", "a.b"]
    {
        to.ask(GetConfigValueArgs { name: text(name), default_value: text("mine") }).await;
    }
    to.ask(GetConfigValueArgs { name: None, default_value: text("mine") }).await;
    to.ask(GetConfigValueArgs { name: text("hive.no.such.key"), default_value: None }).await;
    for name in ["hive.metastore.try.direct.sql", "metastore.try.direct.sql", "hive.exec.default.partition.name"] {
        to.ask(GetConfigValueArgs { name: text(name), default_value: text("mine") }).await;
    }
    to.ask(GetConfigValueArgs { name: text("javax.jdo.option.ConnectionPassword"), default_value: text("mine") }).await;
    to.ask(GetMetaConfArgs { key: text("metastore.try.direct.sql") }).await;
    to.ask(GetMetaConfArgs { key: text("hive.metastore.try.direct.sql") }).await;
    to.ask(GetMetaConfArgs { key: text("no.such.key") }).await;
    to.ask(SetMetaConfArgs { key: text("metastore.try.direct.sql"), value: text("true") }).await;
    to.ask(SetMetaConfArgs { key: text("metastore.try.direct.sql"), value: text("perhaps") }).await;
    to.ask(SetMetaConfArgs { key: text("no.such.key"), value: text("1") }).await;
    to.ask(FlushCacheArgs {}).await;
    let token = GetDelegationTokenArgs { token_owner: text("ada"), renewer_kerberos_principal_name: text("ada") };
    to.ask(token).await;
    // It is another one each time.
    to.ask_sorted(GetMetastoreDbUuidArgs {}, |uuid| *uuid = format!("{} characters", uuid.len())).await;
    // Indexes are gone since Hive 3, and clients of Hive 2 ask for them.
    to.ask(GetIndexesArgs { db_name: text("default"), tbl_name: text("t"), max_indexes: Some(-1) }).await;
    let index = DropIndexByNameArgs {
        db_name: text("default"),
        tbl_name: text("t"),
        index_name: text("i"),
        delete_data: Some(true),
    };
    to.ask(index).await;
    // What Hive 4 added: a client asks and goes on with what Hive 3 has.
    to.ask(AlterTableReqArgs { req: Some(AlterTableRequest::default()) }).await;
    to.ask(AlterPartitionsReqArgs { req: Some(AlterPartitionsRequest::default()) }).await;
    to.ask(ShutdownArgs {}).await;
}
