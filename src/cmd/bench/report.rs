//! What was measured: a table for people, JSON for scripts.

use std::fmt::Write;

use serde::Serialize;

/// Everything that one run of the bench found out.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    /// `tpch` or `tpcds`.
    pub(super) benchmark: String,
    /// Scale factor.
    pub(super) scale: f64,
    /// When it ended, in UTC.
    pub(super) date: String,
    /// The machine.
    pub(super) machine: Machine,
    /// Warm runs of each query.
    pub(super) runs: u32,
    /// `file`, or the URL that Tereza read from; peers read files.
    pub(super) store: String,
    /// Executors of Tereza; 0 means one process.
    pub(super) executors: usize,
    /// What each engine was told to keep to.
    pub(super) memory_limit_bytes: Option<u64>,
    /// Tereza first, then the peers as asked for.
    pub(super) engines: Vec<EngineReport>,
    /// In the order they were run.
    pub(super) queries: Vec<QueryReport>,
    /// How much longer each peer took than Tereza.
    pub(super) ratios: Vec<Ratio>,
}

#[derive(Debug, Serialize)]
pub(super) struct Machine {
    pub(super) cores: usize,
    pub(super) memory_bytes: Option<u64>,
    pub(super) cpu: Option<String>,
}

#[derive(Debug, Serialize)]
pub(super) struct EngineReport {
    pub(super) name: String,
    pub(super) version: Option<String>,
    /// Most resident memory of its processes.
    pub(super) peak_rss_bytes: u64,
    /// Why it was not measured at all.
    pub(super) missing: Option<String>,
}

#[derive(Debug, Serialize)]
pub(super) struct QueryReport {
    pub(super) number: u32,
    /// One for each engine that is not missing, in the order of [`Report::engines`].
    pub(super) results: Vec<QueryResult>,
}

/// One query by one engine.
#[derive(Debug, Clone, Serialize)]
pub(super) struct QueryResult {
    pub(super) engine: String,
    /// The first run in the engine's process, tables open; the system's file cache is left as it is.
    pub(super) cold_ms: Option<f64>,
    /// Each further run.
    pub(super) warm_runs_ms: Vec<f64>,
    /// The median of those.
    pub(super) warm_ms: Option<f64>,
    pub(super) rows: Option<usize>,
    pub(super) verdict: Verdict,
    /// What differs, or the error.
    pub(super) detail: Option<String>,
}

/// What became of a query.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Verdict {
    /// The judge's answer.
    Right,
    /// Another answer.
    Wrong,
    /// No answer.
    Failed,
}

#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Ratio {
    pub(super) peer: String,
    /// Geometric mean of the peer's warm median over Tereza's; above 1, Tereza is the faster one.
    pub(super) geomean: f64,
    /// Queries in the mean: those that both answered right.
    pub(super) queries: usize,
}

impl QueryResult {
    /// What is known before the first run.
    pub(super) fn unanswered(engine: &str) -> Self {
        Self {
            engine: engine.into(),
            cold_ms: None,
            warm_runs_ms: Vec::new(),
            warm_ms: None,
            rows: None,
            verdict: Verdict::Failed,
            detail: None,
        }
    }
}

/// The median; the mean of the two in the middle for an even number.
pub(super) fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        length if length % 2 == 1 => Some(sorted[middle]),
        _ => Some((sorted[middle - 1] + sorted[middle]) / 2.0),
    }
}

/// Each peer's ratio over the queries that it and the first engine answered right.
pub(super) fn ratios(queries: &[QueryReport]) -> Vec<Ratio> {
    let Some(first) = queries.first() else { return Vec::new() };
    let peers = 1..first.results.len();
    let warm_ms = |result: &QueryResult| result.warm_ms.filter(|_| result.verdict == Verdict::Right);
    peers
        .filter_map(|peer| {
            let logs: Vec<f64> = queries
                .iter()
                .filter_map(|query| Some((warm_ms(&query.results[peer])? / warm_ms(&query.results[0])?).ln()))
                .collect();
            let mean = logs.iter().sum::<f64>() / logs.len() as f64;
            let peer = first.results[peer].engine.clone();
            (!logs.is_empty()).then(|| Ratio { peer, geomean: mean.exp(), queries: logs.len() })
        })
        .collect()
}

impl Report {
    /// Whether Tereza answered everything right.
    pub(super) fn is_right(&self) -> bool {
        let own = self.queries.iter().filter_map(|query| query.results.first());
        own.into_iter().all(|result| result.verdict == Verdict::Right)
    }

    /// The table, with what was missing, wrong or failed below it.
    pub(super) fn render(&self) -> String {
        let mut lines = vec![self.heading()];
        for query in &self.queries {
            let own_ms = query.results.first().and_then(|result| result.warm_ms);
            let mut line = vec![format!("q{}", query.number)];
            for (at, result) in query.results.iter().enumerate() {
                line.extend(cells(result));
                if at > 0 {
                    let ratio = result.warm_ms.zip(own_ms).map(|(peer, own)| format!("{:.2}", peer / own));
                    line.push(ratio.unwrap_or_else(|| "-".into()));
                }
            }
            lines.push(line);
        }
        let mut text = format!(
            "{} scale {}, {} warm runs, {} cores, {}\n\n{}\n",
            self.benchmark,
            self.scale,
            self.runs,
            self.machine.cores,
            self.store,
            aligned(&lines)
        );
        for engine in &self.engines {
            let version = engine.version.as_deref().unwrap_or("-");
            // Writing to a string cannot fail.
            let _ = match &engine.missing {
                Some(reason) => writeln!(text, "{}: MISSING: {reason}", engine.name),
                None => writeln!(text, "{} {version}: peak memory {} MB", engine.name, engine.peak_rss_bytes >> 20),
            };
        }
        for ratio in &self.ratios {
            let Ratio { peer, geomean, queries } = ratio;
            let _ = writeln!(text, "{peer} takes {geomean:.2} x Tereza's time (geometric mean of {queries} queries)");
        }
        for query in &self.queries {
            for result in query.results.iter().filter(|result| result.verdict != Verdict::Right) {
                let word = if result.verdict == Verdict::Wrong { "WRONG" } else { "not answered" };
                let detail = result.detail.as_deref().unwrap_or("-").replace('\n', " ");
                let _ = writeln!(text, "q{} {}: {word}: {detail}", query.number, result.engine);
            }
        }
        text
    }

    fn heading(&self) -> Vec<String> {
        let mut heading = vec!["query".to_owned()];
        let measured = self.engines.iter().filter(|engine| engine.missing.is_none());
        for (at, engine) in measured.enumerate() {
            heading.extend([format!("{} ms", engine.name), "cold ms".into()]);
            if at > 0 {
                heading.push("ratio".into());
            }
        }
        heading
    }
}

fn cells(result: &QueryResult) -> [String; 2] {
    let ms = |value: Option<f64>| value.map_or_else(|| "-".into(), |ms| format!("{ms:.1}"));
    match result.verdict {
        Verdict::Right => [ms(result.warm_ms), ms(result.cold_ms)],
        Verdict::Wrong => ["WRONG".into(), ms(result.cold_ms)],
        Verdict::Failed => ["failed".into(), "-".into()],
    }
}

/// Columns padded to their widest cell, the first to the left, the others to the right.
fn aligned(lines: &[Vec<String>]) -> String {
    let columns = lines.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns)
        .map(|column| {
            lines.iter().filter_map(|line| line.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
        })
        .collect();
    let mut text = String::new();
    for line in lines {
        for (at, (cell, width)) in line.iter().zip(&widths).enumerate() {
            let _ = match at {
                0 => write!(text, "{cell:<width$}"),
                _ => write!(text, "  {cell:>width$}"),
            };
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(engine: &str, warm_ms: f64, verdict: Verdict) -> QueryResult {
        QueryResult { warm_ms: Some(warm_ms), verdict, ..QueryResult::unanswered(engine) }
    }

    #[test]
    fn medians() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
    }

    #[test]
    fn ratios_leave_out_what_is_not_right() {
        let queries =
            [(1, 10.0, 20.0, Verdict::Right), (2, 10.0, 80.0, Verdict::Right), (3, 10.0, 1.0, Verdict::Wrong)].map(
                |(number, own, peer, verdict)| QueryReport {
                    number,
                    results: vec![result("tereza", own, Verdict::Right), result("p", peer, verdict)],
                },
            );
        let found = ratios(&queries);
        assert_eq!((found.len(), found[0].queries), (1, 2));
        assert!((found[0].geomean - 4.0).abs() < 1e-12);
    }

    #[test]
    fn columns_line_up() {
        let lines = [vec!["q".into(), "ms".into()], vec!["q10".into(), "1.5".into()]];
        assert_eq!(aligned(&lines), "q     ms\nq10  1.5\n");
    }
}
