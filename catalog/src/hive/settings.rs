//! Settings of a metastore that its clients ask for by name. Those of this one are not among them.

use tereza_thrift::hive::{ConfigValSecurityException, MetaException};

use super::Answer;
use crate::model::DEFAULT_PARTITION;

/// Settings of a metastore that clients ask for by name, with what they are here.
const META_CONF: [(&str, &str); 3] = [
    ("metastore.try.direct.sql", "true"),
    ("metastore.partition.management.task.frequency", "0"),
    ("hive.metastore.client.capability.check", "false"),
];

/// Settings of a metastore by names of Hive 2 that engines ask for before they begin, with what they are here.
const CONFIG: [(&str, &str); 2] =
    [("hive.metastore.try.direct.sql", "true"), ("hive.exec.default.partition.name", DEFAULT_PARTITION)];

/// Of the other settings of others a client may see its own default, and nothing of what is not Hive's.
pub(super) fn config_value(name: Option<String>, default: Option<String>) -> Answer<String> {
    let is_allowed = |name: &String| ["hive", "hdfs", "mapred", "metastore"].iter().any(|own| name.starts_with(own));
    match name {
        Some(name) if !is_allowed(&name) => {
            let message = format!("For security reasons, the config key {name} cannot be accessed");
            Err(ConfigValSecurityException::new(message).into())
        }
        Some(name) => {
            let known = CONFIG.iter().chain(&META_CONF).find(|(known, _)| *known == name);
            Ok(known.map(|(_, value)| (*value).to_owned()).or(default).unwrap_or_default())
        }
        None => Ok(default.unwrap_or_default()),
    }
}

pub(super) fn meta_conf(key: Option<String>) -> Answer<&'static str> {
    let key = key.unwrap_or_default();
    let known = META_CONF.iter().find(|(name, _)| *name == key || key.strip_prefix("hive.") == Some(*name));
    known.map(|(_, value)| *value).ok_or_else(|| MetaException::new(format!("Invalid configuration key {key}")).into())
}
