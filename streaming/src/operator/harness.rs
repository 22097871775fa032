//! Drives operators in tests, and judges them by DataFusion's batch engine.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use arrow::util::pretty::pretty_format_batches;
use datafusion::prelude::SessionContext;
use proptest::prelude::*;

use super::fold::{Fold, FoldByKey};
use super::state::{SnapshotWriter, StateReader, compact, merge};
use super::{Batch, ChangelogMode, Context, Operator, RowKind, WATERMARK_MAX};

/// A row of [`schema`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) k: Option<i64>,
    pub(crate) v: Option<i64>,
    pub(crate) s: Option<u8>,
    pub(crate) ts: i64,
}

/// Rows with few different keys.
pub(crate) fn any_row() -> impl Strategy<Value = Row> {
    let k = proptest::option::weighted(0.9, 0..4_i64);
    let v = proptest::option::weighted(0.9, -20..20_i64);
    (k, v, proptest::option::weighted(0.9, 0..3_u8), -50..250_i64).prop_map(|(k, v, s, ts)| Row { k, v, s, ts })
}

/// `k BIGINT, v BIGINT, s STRING, ts TIMESTAMP(3) NOT NULL`.
pub(crate) fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("k", DataType::Int64, true),
        Field::new("v", DataType::Int64, true),
        Field::new("s", DataType::Utf8, true),
        Field::new("ts", DataType::Timestamp(TimeUnit::Millisecond, None), false),
    ]))
}

pub(crate) fn table(rows: &[Row]) -> RecordBatch {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(rows.iter().map(|row| row.k).collect::<Int64Array>()),
        Arc::new(rows.iter().map(|row| row.v).collect::<Int64Array>()),
        Arc::new(rows.iter().map(|row| row.s.map(|s| format!("s{s}"))).collect::<StringArray>()),
        Arc::new(rows.iter().map(|row| Some(row.ts)).collect::<TimestampMillisecondArray>()),
    ];
    RecordBatch::try_new(schema(), columns).unwrap()
}

/// A row that comes or goes.
pub(crate) type Change = (RowKind, Row);

/// Changes that only take back what was added, with updates among them.
pub(crate) fn any_changes(length: usize) -> impl Strategy<Value = Vec<Change>> {
    proptest::collection::vec((0..10_u8, any_row(), any::<proptest::sample::Index>()), 0..length).prop_map(|actions| {
        let mut live: Vec<Row> = Vec::new();
        let mut changes = Vec::new();
        for (action, row, index) in actions {
            if action < 5 || live.is_empty() {
                live.push(row.clone());
                changes.push((RowKind::Insert, row));
                continue;
            }
            let old = live.swap_remove(index.index(live.len()));
            if action < 7 {
                changes.push((RowKind::Delete, old));
            } else {
                live.push(row.clone());
                changes.extend([(RowKind::UpdateBefore, old), (RowKind::UpdateAfter, row)]);
            }
        }
        changes
    })
}

pub(crate) fn batch(changes: &[Change]) -> Batch {
    let rows: Vec<Row> = changes.iter().map(|(_, row)| row.clone()).collect();
    Batch::changes(table(&rows), changes.iter().map(|(kind, _)| *kind).collect()).unwrap()
}

/// The table that changes stand for.
pub(crate) fn folded(changes: &[Change]) -> RecordBatch {
    let mut fold = Fold::new(schema()).unwrap();
    fold.apply(&batch(changes)).unwrap();
    fold.rows().unwrap()
}

/// What happens between two rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cut {
    /// Nothing: both are in one batch.
    None,
    /// A new batch begins.
    Batch,
    /// A snapshot is taken.
    Snapshot,
    /// A snapshot is taken and another operator goes on from the chain.
    Restart,
    /// The same, from the chain made one base.
    Compact,
    /// The same, from two bases of some key groups each.
    Rescale,
}

pub(crate) fn any_cuts() -> impl Strategy<Value = Vec<Cut>> {
    let cut = prop_oneof![
        8 => Just(Cut::None),
        4 => Just(Cut::Batch),
        2 => Just(Cut::Snapshot),
        1 => Just(Cut::Restart),
        1 => Just(Cut::Compact),
        1 => Just(Cut::Rescale),
    ];
    proptest::collection::vec(cut, 1..40)
}

/// Runs one operator after the other, and folds what they emit.
pub(crate) struct Driver<O, F> {
    make: F,
    pub(crate) operator: O,
    pub(crate) cx: Context,
    fold: Fold,
    by_key: Option<FoldByKey>,
    chain: Vec<Vec<u8>>,
    epoch: u64,
    pub(crate) kinds: Vec<RowKind>,
}

impl<O: Operator, F: Fn() -> O> Driver<O, F> {
    pub(crate) fn new(make: F) -> Self {
        let operator = make();
        let by_key = match operator.mode() {
            ChangelogMode::Retract { key: Some(key) } => Some(FoldByKey::new(operator.schema(), &key).unwrap()),
            _ => None,
        };
        let fold = Fold::new(operator.schema()).unwrap();
        let cx = Context { now_ms: 0, state_bytes_max: usize::MAX };
        Self { make, operator, cx, fold, by_key, chain: Vec::new(), epoch: 0, kinds: Vec::new() }
    }

    fn take(&mut self, out: Vec<Batch>) {
        for batch in out {
            assert_eq!(batch.rows().schema(), self.operator.schema());
            if self.operator.mode() == ChangelogMode::Append {
                assert!(batch.kinds().is_none(), "an append stream with changes");
            }
            self.kinds.extend((0..batch.len()).map(|row| batch.kind(row)));
            self.fold.apply(&batch).unwrap();
            if let Some(by_key) = &mut self.by_key {
                by_key.apply(&batch).unwrap();
            }
        }
    }

    pub(crate) fn process(&mut self, input: usize, batch: Batch) {
        let mut out = Vec::new();
        self.operator.process(input, batch, &self.cx, &mut out).unwrap();
        self.take(out);
    }

    pub(crate) fn advance(&mut self, watermark: i64) {
        let mut out = Vec::new();
        self.operator.advance(watermark, &self.cx, &mut out).unwrap();
        self.take(out);
    }

    pub(crate) fn snapshot(&mut self) {
        let after = (!self.chain.is_empty()).then_some(self.epoch);
        self.epoch += 1;
        let mut writer = SnapshotWriter::new(self.operator.name(), &self.operator.describe(), self.epoch, after);
        self.operator.snapshot(&mut writer).unwrap();
        self.chain.push(writer.finish().unwrap());
    }

    pub(crate) fn restart(&mut self, chains: &[Vec<Vec<u8>>]) {
        self.operator = (self.make)();
        let state = StateReader::open(&self.operator.describe(), chains, 0..=255).unwrap();
        self.operator.restore(&state).unwrap();
    }

    pub(crate) fn cut(&mut self, cut: Cut) {
        if matches!(cut, Cut::None | Cut::Batch) {
            return;
        }
        self.snapshot();
        let description = self.operator.describe();
        let base = |chains: &[Vec<Vec<u8>>], groups| vec![compact(&description, chains, groups).unwrap()];
        let chains = [std::mem::take(&mut self.chain)];
        match cut {
            Cut::Compact => self.chain = base(&chains, 0..=255),
            Cut::Rescale => {
                let halves = [base(&chains, 0..=99), base(&chains, 100..=255)];
                self.restart(&halves);
                self.chain = base(&halves, 0..=255);
                return;
            }
            _ => [self.chain] = chains,
        }
        if self.chain.len() > 3 {
            let merged = merge(&description, &self.chain[1..], 0..=255).unwrap();
            self.chain.splice(1.., [merged]);
        }
        if cut != Cut::Snapshot {
            let chain = self.chain.clone();
            self.restart(std::slice::from_ref(&chain));
        }
    }

    /// Gives changes of one input, cut as told.
    pub(crate) fn run(&mut self, changes: &[Change], cuts: &[Cut]) {
        let mut from = 0;
        for (at, cut) in (1..=changes.len()).zip(cuts.iter().cycle()) {
            if *cut != Cut::None || at == changes.len() {
                self.process(0, batch(&changes[from..at]));
                from = at;
                self.cut(*cut);
            }
        }
    }

    /// The folded rows after the end of the input.
    pub(crate) fn finish(mut self) -> RecordBatch {
        self.advance(WATERMARK_MAX);
        let rows = self.fold.rows().unwrap();
        if let Some(by_key) = &self.by_key {
            assert_same(&by_key.rows().unwrap(), &rows);
        }
        rows
    }
}

/// The answer of DataFusion to a query over tables.
#[expect(clippy::disallowed_methods, reason = "DataFusion's batch engine is the judge of these tests")]
pub(crate) fn sql(tables: &[(&str, RecordBatch)], query: &str) -> RecordBatch {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let session = SessionContext::new();
        for (name, rows) in tables {
            session.register_batch(*name, rows.clone()).unwrap();
        }
        let frame = session.sql(query).await.unwrap();
        let schema = Arc::new(frame.schema().as_arrow().clone());
        let batches = frame.collect().await.unwrap();
        arrow::compute::concat_batches(&schema, &batches).unwrap()
    })
}

fn sorted(rows: &RecordBatch, schema: &SchemaRef) -> RecordBatch {
    assert_eq!(rows.num_columns(), schema.fields().len(), "{:?}", rows.schema());
    let columns =
        rows.columns().iter().zip(schema.fields()).map(|(column, field)| cast(column, field.data_type()).unwrap());
    let rows = RecordBatch::try_new(SchemaRef::clone(schema), columns.collect()).unwrap();
    let mut fold = Fold::new(SchemaRef::clone(schema)).unwrap();
    fold.apply(&Batch::inserts(rows)).unwrap();
    fold.rows().unwrap()
}

/// Compares multisets of rows; the second is cast to the types of the first.
pub(crate) fn assert_same(found: &RecordBatch, expected: &RecordBatch) {
    let schema = Arc::new(Schema::new(
        found.schema().fields().iter().map(|field| field.as_ref().clone().with_nullable(true)).collect::<Vec<_>>(),
    ));
    let (found, expected) = (sorted(found, &schema), sorted(expected, &schema));
    assert!(
        found == expected,
        "found\n{}\nexpected\n{}",
        pretty_format_batches(&[found]).unwrap(),
        pretty_format_batches(&[expected]).unwrap()
    );
}
