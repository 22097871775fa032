//! `CREATE TABLE … LIKE`: a table that begins from another one.

use std::collections::BTreeMap;

use datafusion::sql::sqlparser::tokenizer::Token;
use tereza_runtime::{Error, Result};

use super::reader::{Reader, at};
use super::table::{ColumnKind, StreamColumn, StreamTable};

/// `LIKE table (INCLUDING …, EXCLUDING …, OVERWRITING …)`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Like {
    /// The name of the table to begin from.
    pub table: Vec<String>,
    strategies: BTreeMap<Feature, Strategy>,
}

/// A part of a table that LIKE can take over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Feature {
    Constraints,
    Distribution,
    Generated,
    Metadata,
    Options,
    Partitions,
    Watermarks,
}

/// What becomes of a part of the other table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strategy {
    /// It is taken over; the new table says nothing of the same name.
    Including,
    /// It is left out.
    Excluding,
    /// It is taken over where the new table says nothing of the same name.
    Overwriting,
}

const FEATURES: [(&str, Feature); 7] = [
    ("CONSTRAINTS", Feature::Constraints),
    ("DISTRIBUTION", Feature::Distribution),
    ("GENERATED", Feature::Generated),
    ("METADATA", Feature::Metadata),
    ("OPTIONS", Feature::Options),
    ("PARTITIONS", Feature::Partitions),
    ("WATERMARKS", Feature::Watermarks),
];

const STRATEGIES: [(&str, Strategy); 3] =
    [("INCLUDING", Strategy::Including), ("EXCLUDING", Strategy::Excluding), ("OVERWRITING", Strategy::Overwriting)];

impl Feature {
    fn word(self) -> &'static str {
        FEATURES.iter().find(|(_, feature)| *feature == self).map_or("ALL", |(word, _)| word)
    }

    /// Whether a new value can stand for an old one of the same name.
    fn can_overwrite(self) -> bool {
        matches!(self, Self::Generated | Self::Metadata | Self::Options | Self::Watermarks)
    }
}

impl Like {
    /// Reads what follows the word LIKE.
    pub(super) fn parse(reader: &mut Reader<'_>) -> Result<Self> {
        let table = reader.name(3)?;
        let mut written: Vec<(Option<Feature>, Strategy)> = Vec::new();
        if reader.take_token(&Token::LParen) {
            while written.is_empty() || !reader.take_token(&Token::RParen) {
                let words = STRATEGIES.map(|(word, _)| word);
                let strategy = reader.expect_one(&words)?;
                let strategy = STRATEGIES.iter().find(|(word, _)| *word == strategy).map(|(_, strategy)| *strategy);
                let token = reader.next().clone();
                let words: Vec<&str> = std::iter::once("ALL").chain(FEATURES.map(|(word, _)| word)).collect();
                let word = reader.expect_one(&words)?;
                let feature = FEATURES.iter().find(|(known, _)| *known == word).map(|(_, feature)| *feature);
                let strategy = strategy.unwrap_or(Strategy::Including);
                let refusal = if strategy == Strategy::Overwriting && !feature.is_some_and(Feature::can_overwrite) {
                    format!("OVERWRITING does not go with {word}")
                } else if written.iter().any(|(known, _)| *known == feature) {
                    format!("{word} is twice in LIKE")
                } else {
                    written.push((feature, strategy));
                    continue;
                };
                return Err(at(Error::invalid_input(refusal), &token));
            }
        }
        let all = written.iter().find(|(feature, _)| feature.is_none()).map(|(_, strategy)| *strategy);
        let strategy = |feature| {
            let own = written.iter().find(|(known, _)| *known == Some(feature)).map(|(_, strategy)| *strategy);
            let usual = if feature == Feature::Options { Strategy::Overwriting } else { Strategy::Including };
            own.or(all).unwrap_or(usual)
        };
        let strategies = FEATURES.iter().map(|(_, feature)| (*feature, strategy(*feature))).collect();
        Ok(Self { table, strategies })
    }

    /// What becomes of a part of the other table.
    pub fn strategy(&self, feature: Feature) -> Strategy {
        self.strategies.get(&feature).copied().unwrap_or(Strategy::Including)
    }
}

impl StreamTable {
    /// The table that begins as `base` and goes on as `self` says.
    ///
    /// Columns of `base` come first. A comment is not taken over.
    pub fn like(self, base: &Self, like: &Like) -> Result<Self> {
        let excluded = |feature| like.strategy(feature) == Strategy::Excluding;
        let mut table = Self { comment: self.comment, ..Self::default() };
        table.columns = columns(&base.columns, self.columns, like)?;
        table.options = options(&base.options, self.options, like.strategy(Feature::Options))?;
        table.watermark = match (self.watermark, &base.watermark) {
            (own, Some(_)) if excluded(Feature::Watermarks) => own,
            (Some(own), Some(old)) if own.rowtime != old.rowtime => {
                return Err(
                    Error::unsupported("a second WATERMARK of one table").with_hint("write EXCLUDING WATERMARKS")
                );
            }
            (Some(_), Some(_)) if like.strategy(Feature::Watermarks) == Strategy::Including => {
                return Err(taken("a watermark for the same column", Feature::Watermarks));
            }
            (own, old) => own.or_else(|| old.clone()),
        };
        table.primary_key = one(self.primary_key, &base.primary_key, "a primary key", Feature::Constraints, like)?;
        table.distribution = one(self.distribution, &base.distribution, "a distribution", Feature::Distribution, like)?;
        let some = |keys: Vec<String>| (!keys.is_empty()).then_some(keys);
        let old = some(base.partition_keys.clone());
        table.partition_keys =
            one(some(self.partition_keys), &old, "partitions", Feature::Partitions, like)?.unwrap_or_default();
        table.check()?;
        Ok(table)
    }
}

/// Of something that a table has once at most: the new one or the old one.
fn one<T: Clone>(own: Option<T>, old: &Option<T>, what: &str, feature: Feature, like: &Like) -> Result<Option<T>> {
    let excluded = like.strategy(feature) == Strategy::Excluding;
    match (own, old) {
        (Some(own), Some(_)) if excluded => Ok(Some(own)),
        (Some(_), Some(_)) => Err(taken(what, feature)),
        // Flink leaves out partitions and a distribution only where the new table has others.
        (None, Some(_)) if excluded && feature == Feature::Constraints => Ok(None),
        (own, old) => Ok(own.or_else(|| old.clone())),
    }
}

/// The error for what both tables have.
fn taken(what: &str, feature: Feature) -> Error {
    let word = feature.word();
    let error = Error::invalid_input(format!("the table that LIKE names has {what} already"));
    if feature.can_overwrite() {
        error.with_hint(format!("write EXCLUDING {word} or OVERWRITING {word}"))
    } else {
        error.with_hint(format!("write EXCLUDING {word}"))
    }
}

fn options(
    old: &BTreeMap<String, String>,
    own: BTreeMap<String, String>,
    strategy: Strategy,
) -> Result<BTreeMap<String, String>> {
    let mut options = if strategy == Strategy::Excluding { BTreeMap::new() } else { old.clone() };
    for (key, value) in own {
        if options.contains_key(&key) && strategy == Strategy::Including {
            return Err(taken(&format!("option '{key}'"), Feature::Options));
        }
        options.insert(key, value);
    }
    Ok(options)
}

/// What governs a column of this kind; physical ones are always taken over.
fn feature(kind: &ColumnKind) -> Option<Feature> {
    match kind {
        ColumnKind::Physical { .. } => None,
        ColumnKind::Computed { .. } => Some(Feature::Generated),
        ColumnKind::Metadata { .. } => Some(Feature::Metadata),
    }
}

fn columns(old: &[StreamColumn], own: Vec<StreamColumn>, like: &Like) -> Result<Vec<StreamColumn>> {
    let kept = |column: &&StreamColumn| {
        feature(&column.kind).is_none_or(|feature| like.strategy(feature) != Strategy::Excluding)
    };
    let mut columns: Vec<StreamColumn> = old.iter().filter(kept).cloned().collect();
    let inherited = columns.len();
    for column in own {
        let Some(at) = columns[..inherited].iter().position(|known| known.name == column.name) else {
            columns.push(column);
            continue;
        };
        let what = format!("a column '{}'", column.name);
        match feature(&column.kind) {
            Some(kind) if feature(&columns[at].kind) == Some(kind) => {
                if like.strategy(kind) != Strategy::Overwriting {
                    return Err(taken(&what, kind));
                }
                columns[at] = column;
            }
            _ => return Err(Error::invalid_input(format!("the table that LIKE names has {what} already"))),
        }
    }
    Ok(columns)
}

#[cfg(test)]
#[path = "like_tests.rs"]
mod tests;
