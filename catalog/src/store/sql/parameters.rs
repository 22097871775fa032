//! The tables of free `key = value` text: `DATABASE_PARAMS`, `TABLE_PARAMS`, `PARTITION_PARAMS`, `SD_PARAMS`, `SERDE_PARAMS`.

use std::collections::HashMap;

use tereza_runtime::{Error, Result as PublicResult};

use super::{Connection, Result, rows};
use crate::model::Parameters;
use crate::store::names;

/// One of the five tables.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ParameterTable {
    name: &'static str,
    owner: &'static str,
    max_key_chars: usize,
    max_value_chars: usize,
}

/// Characters that MySQL's `MEDIUMTEXT` holds of a one-byte character set.
const MEDIUMTEXT_CHARS: usize = 16_777_215;

pub(crate) const DATABASE: ParameterTable =
    ParameterTable { name: "DATABASE_PARAMS", owner: "DB_ID", max_key_chars: 180, max_value_chars: 4_000 };
pub(crate) const TABLE: ParameterTable =
    ParameterTable { name: "TABLE_PARAMS", owner: "TBL_ID", max_key_chars: 256, max_value_chars: MEDIUMTEXT_CHARS };
pub(crate) const PARTITION: ParameterTable =
    ParameterTable { name: "PARTITION_PARAMS", owner: "PART_ID", max_key_chars: 256, max_value_chars: 4_000 };
pub(crate) const STORAGE: ParameterTable =
    ParameterTable { name: "SD_PARAMS", owner: "SD_ID", max_key_chars: 256, max_value_chars: MEDIUMTEXT_CHARS };
pub(crate) const SERDE: ParameterTable =
    ParameterTable { name: "SERDE_PARAMS", owner: "SERDE_ID", max_key_chars: 256, max_value_chars: MEDIUMTEXT_CHARS };

/// The parameter that says when a table or partition was last defined, in seconds; added when the client sends none.
pub(crate) const LAST_DDL_TIME: &str = "transient_lastDdlTime";

impl ParameterTable {
    /// Adds parameters to owners that have none yet.
    pub(crate) async fn insert(self, conn: &mut Connection, owners: &[(i64, &Parameters)]) -> Result<()> {
        let mut entries = Vec::new();
        for (owner, parameters) in owners {
            for (key, value) in *parameters {
                self.check(key, value)?;
                entries.push((*owner, key.as_str(), value.as_str()));
            }
        }
        let into = format!("INSERT INTO {} ({}, PARAM_KEY, PARAM_VALUE) ", self.name, self.owner);
        rows::insert(conn, &into, 3, &entries, |values, (owner, key, value)| {
            values.push_bind(*owner).push_bind(*key).push_bind(*value);
        })
        .await
    }

    /// The parameters of each owner that has some. A NULL value counts as absent, as in the metastore.
    pub(crate) async fn load(self, conn: &mut Connection, owners: &[i64]) -> Result<HashMap<i64, Parameters>> {
        let select = format!("SELECT {0}, PARAM_KEY, PARAM_VALUE FROM {1} WHERE {0} IN ", self.owner, self.name);
        let found: Vec<(i64, String, Option<String>)> = rows::select_in(conn, &select, owners, "").await?;
        let mut parameters: HashMap<i64, Parameters> = HashMap::with_capacity(owners.len());
        for (owner, key, value) in found {
            if let Some(value) = value {
                parameters.entry(owner).or_default().insert(key, value);
            }
        }
        Ok(parameters)
    }

    /// Makes the parameters of each owner exactly these.
    pub(crate) async fn replace(self, conn: &mut Connection, owners: &[(i64, &Parameters)]) -> Result<()> {
        let ids: Vec<i64> = owners.iter().map(|(owner, _)| *owner).collect();
        self.delete(conn, &ids).await?;
        self.insert(conn, owners).await
    }

    /// Removes all parameters of the owners.
    pub(crate) async fn delete(self, conn: &mut Connection, owners: &[i64]) -> Result<()> {
        let delete = format!("DELETE FROM {} WHERE {} IN ", self.name, self.owner);
        rows::execute_in(conn, &delete, owners, "").await
    }

    fn check(self, key: &str, value: &str) -> PublicResult<()> {
        if key.is_empty() {
            return Err(Error::invalid_input(format!("a parameter with the value '{value}' has no name")));
        }
        names::check_chars("the name of a parameter", key, self.max_key_chars)?;
        names::check_chars(&format!("the value of the parameter '{key}'"), value, self.max_value_chars)
    }
}
