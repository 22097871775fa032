//! What kinds of changes a stream carries, and who takes them.

use tereza_runtime::error::{Error, Result};

/// The changes of a stream. Columns of a key are positions in its schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChangelogMode {
    /// Inserts only.
    Append,
    /// The latest row of each key: `+I`, `+U` and `-D`, never `-U`. A `-D` may hold the key alone.
    Upsert(Vec<usize>),
    /// All four kinds; every row that is taken back was added before. Where the key is known no two rows share one.
    Retract {
        /// The columns that tell the rows apart.
        key: Option<Vec<usize>>,
    },
}

impl ChangelogMode {
    /// The mode's name in messages.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Append => "append",
            Self::Upsert(_) => "upsert",
            Self::Retract { .. } => "retract",
        }
    }

    /// Refuses all but inserts, for an operator that cannot take a row back.
    pub fn require_append(&self, operator: &str) -> Result<()> {
        match self {
            Self::Append => Ok(()),
            _ => Err(Error::unsupported(format!("{operator} takes inserts only, its input is a stream of updates"))),
        }
    }

    /// Refuses streams without `-U`, for an operator that must know which row is replaced.
    pub fn require_before_images(&self, operator: &str) -> Result<()> {
        match self {
            Self::Upsert(_) => {
                Err(Error::unsupported(format!("{operator} needs the rows that updates replace, its input has none")))
            }
            _ => Ok(()),
        }
    }

    /// The mode of a stream made of the columns at `columns` of this one. A key that is not kept is forgotten.
    pub fn project(&self, columns: &[Option<usize>], operator: &str) -> Result<Self> {
        let moved = |key: &[usize]| -> Option<Vec<usize>> {
            key.iter().map(|at| columns.iter().position(|column| *column == Some(*at))).collect()
        };
        match self {
            Self::Append => Ok(Self::Append),
            Self::Retract { key } => Ok(Self::Retract { key: key.as_deref().and_then(moved) }),
            Self::Upsert(key) => moved(key).map(Self::Upsert).ok_or_else(|| {
                Error::unsupported(format!("{operator} drops the key of a stream without before images"))
            }),
        }
    }
}

/// What a sink takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SinkMode {
    /// Inserts only, for example plain files.
    Append,
    /// The latest row of each key.
    Upsert(Vec<usize>),
    /// Every change.
    Retract,
    /// Whatever comes.
    Any,
}

/// Refuses a stream that the sink cannot take, with the reason.
pub fn check_sink(sink: &str, takes: &SinkMode, stream: &ChangelogMode) -> Result<()> {
    let same =
        |left: &[usize], right: &[usize]| left.len() == right.len() && left.iter().all(|column| right.contains(column));
    match (takes, stream) {
        (SinkMode::Any, _) | (_, ChangelogMode::Append) | (SinkMode::Retract, ChangelogMode::Retract { .. }) => Ok(()),
        (SinkMode::Append, _) => Err(Error::unsupported(format!(
            "{sink} takes inserts only, the query makes a stream of mode {}",
            stream.as_str()
        ))
        .with_hint("use a sink with a primary key, or a window, whose results are final")),
        (SinkMode::Retract, ChangelogMode::Upsert(_)) => {
            Err(Error::unsupported(format!("{sink} needs the rows that updates replace, the query does not make them")))
        }
        (SinkMode::Upsert(key), ChangelogMode::Upsert(of) | ChangelogMode::Retract { key: Some(of) })
            if same(key, of) =>
        {
            Ok(())
        }
        (SinkMode::Upsert(key), _) => Err(Error::unsupported(format!(
            "the primary key of {sink} (columns {key:?}) is not the key of the query's rows"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use tereza_runtime::error::ErrorKind;

    use super::*;

    #[test]
    fn a_projection_keeps_a_key_or_forgets_it() {
        let retract = ChangelogMode::Retract { key: Some(vec![0, 2]) };
        let kept = retract.project(&[Some(2), None, Some(0)], "calc").unwrap();
        assert_eq!(kept, ChangelogMode::Retract { key: Some(vec![2, 0]) });
        let lost = retract.project(&[Some(2), None], "calc").unwrap();
        assert_eq!(lost, ChangelogMode::Retract { key: None });
        let refused = ChangelogMode::Upsert(vec![1]).project(&[Some(0)], "calc").unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Unsupported);
    }

    #[test]
    fn sinks_take_what_they_can_keep() {
        let by = |columns: &[usize]| ChangelogMode::Retract { key: Some(columns.to_vec()) };
        assert!(check_sink("s", &SinkMode::Append, &ChangelogMode::Append).is_ok());
        assert!(check_sink("s", &SinkMode::Append, &by(&[0])).is_err());
        assert!(check_sink("s", &SinkMode::Upsert(vec![1, 0]), &by(&[0, 1])).is_ok());
        assert!(check_sink("s", &SinkMode::Upsert(vec![1]), &by(&[0])).is_err());
        assert!(check_sink("s", &SinkMode::Retract, &ChangelogMode::Upsert(vec![0])).is_err());
        assert!(check_sink("s", &SinkMode::Retract, &by(&[0])).is_ok());
    }
}
