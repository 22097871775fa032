//! How plans of this engine travel to executors.
//!
//! DataFusion writes its own plan nodes, and what surrounds them on a cluster (Ballista's shuffles) brings a codec of its
//! own. [`PlanCodec`] is around that one and adds what only this engine has: scans of files with what DataFusion's own form
//! leaves out (how columns are found by name, how files are compressed as a whole, readers of its own), and tables that
//! are generated.
//!
//! A scan stays a `DataSourceExec` over a `FileScanConfig`, because a cluster gives each task its part of a scan only if it
//! is one; a leaf of any other kind must have one partition, or each task would read all of it.

use std::sync::Arc;

use datafusion::common::parsers::CompressionTypeVariant;
use datafusion::common::{DataFusionError, Result, internal_datafusion_err, internal_err};
use datafusion::datasource::file_format::file_compression_type::FileCompressionType;
use datafusion::datasource::physical_plan::{FileScanConfig, FileScanConfigBuilder, FileSource, JsonSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::execution::TaskContext;
use datafusion::logical_expr::{AggregateUDF, HigherOrderUDF, ScalarUDF, WindowUDF};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr_common::physical_expr::proto_decode::PhysicalExprDecodeCtx;
use datafusion::physical_expr_common::physical_expr::proto_encode::PhysicalExprEncodeCtx;
use datafusion::physical_plan::ExecutionPlan;
use datafusion_proto::physical_plan::{
    PhysicalExtensionCodec, PhysicalPlanDecodeContext, PhysicalProtoConverterExtension,
};
use datafusion_proto::protobuf::PhysicalPlanNode;
use prost::Message;

use crate::cluster::BarrierExec;
use crate::formats::{ReaderKind, RowSource};
use crate::generated::{GenerateExec, Generated};
use crate::stores::ObjectStores;
use crate::table::{AnyCase, NamedSource, name_files};
use crate::write::{decode_tasks, encode_tasks};

/// Writes and reads the engine's plan nodes, and passes on what is not the engine's.
#[derive(Debug)]
pub(crate) struct PlanCodec {
    inner: Arc<dyn PhysicalExtensionCodec>,
    /// Where tasks put files; none where plans are only written.
    stores: Option<Arc<ObjectStores>>,
}

impl PlanCodec {
    /// A codec around that of the cluster.
    pub(crate) fn around(inner: Arc<dyn PhysicalExtensionCodec>, stores: Option<Arc<ObjectStores>>) -> Self {
        Self { inner, stores }
    }
}

/// A plan node on the wire.
#[derive(Clone, PartialEq, prost::Message)]
struct Node {
    #[prost(oneof = "Kind", tags = "1, 2, 3, 4, 5")]
    kind: Option<Kind>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum Kind {
    /// A node that the inner codec writes.
    #[prost(bytes, tag = "1")]
    Inner(Vec<u8>),
    /// A scan of files.
    #[prost(message, boxed, tag = "2")]
    Scan(Box<Scan>),
    /// A generated table, as JSON.
    #[prost(bytes, tag = "3")]
    Generated(Vec<u8>),
    /// Tasks that write files, as JSON.
    #[prost(bytes, tag = "4")]
    Write(Vec<u8>),
    /// A barrier, which is all of it.
    #[prost(bytes, tag = "5")]
    Barrier(Vec<u8>),
}

/// A scan of files: DataFusion's form of it, and what that leaves out.
#[derive(Clone, PartialEq, prost::Message)]
struct Scan {
    /// A `DataSourceExec`; of a reader of the engine's own with JSON in its place, for want of a form without a format.
    #[prost(message, optional, tag = "1")]
    scan: Option<PhysicalPlanNode>,
    /// How files are compressed as a whole, by DataFusion's name.
    #[prost(string, tag = "2")]
    compression: String,
    /// Whether the columns of a file are found by name whatever the case.
    #[prost(bool, tag = "3")]
    any_case: bool,
    /// Whether errors name the file.
    #[prost(bool, tag = "4")]
    named: bool,
    /// A reader of the engine's own, as JSON; empty for those of DataFusion.
    #[prost(bytes, tag = "5")]
    reader: Vec<u8>,
}

impl PhysicalExtensionCodec for PlanCodec {
    fn try_encode(
        &self,
        node: Arc<dyn ExecutionPlan>,
        buf: &mut Vec<u8>,
        converter: &dyn PhysicalProtoConverterExtension,
    ) -> Result<()> {
        let kind = if let Some(config) = file_scan(&node) {
            Kind::Scan(Box::new(self.encode_scan(config, converter)?))
        } else if let Some(generate) = node.downcast_ref::<GenerateExec>() {
            Kind::Generated(to_json(&generate.describe()?)?)
        } else if let Some(tasks) = encode_tasks(&node) {
            Kind::Write(to_json(&tasks)?)
        } else if node.is::<BarrierExec>() {
            Kind::Barrier(Vec::new())
        } else {
            let mut inner = Vec::new();
            self.inner.try_encode(node, &mut inner, converter)?;
            Kind::Inner(inner)
        };
        Node { kind: Some(kind) }.encode(buf).map_err(|error| internal_datafusion_err!("plan node: {error}"))
    }

    fn try_decode(
        &self,
        buf: &[u8],
        inputs: &[Arc<dyn ExecutionPlan>],
        context: &TaskContext,
        converter: &dyn PhysicalProtoConverterExtension,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let node = Node::decode(buf).map_err(|error| internal_datafusion_err!("plan node: {error}"))?;
        match node.kind {
            Some(Kind::Inner(inner)) => self.inner.try_decode(&inner, inputs, context, converter),
            Some(Kind::Scan(scan)) => self.decode_scan(*scan, context, converter),
            Some(Kind::Generated(generated)) => {
                Ok(Arc::new(GenerateExec::of_description(from_json::<Generated>(&generated)?)?))
            }
            Some(Kind::Write(tasks)) => {
                let (Some(stores), [input]) = (&self.stores, inputs) else {
                    return internal_err!("tasks that write files, in a process that runs none");
                };
                decode_tasks(from_json(&tasks)?, Arc::clone(input), Arc::clone(stores))
            }
            Some(Kind::Barrier(_)) => match inputs {
                [input] => Ok(Arc::new(BarrierExec::new(Arc::clone(input)))),
                _ => internal_err!("a barrier has one input"),
            },
            None => internal_err!("a plan node of a newer version"),
        }
    }

    fn try_decode_udf(&self, name: &str, buf: &[u8]) -> Result<Arc<ScalarUDF>> {
        self.inner.try_decode_udf(name, buf)
    }

    fn try_encode_udf(&self, node: &ScalarUDF, buf: &mut Vec<u8>) -> Result<()> {
        self.inner.try_encode_udf(node, buf)
    }

    fn try_decode_higher_order_function(&self, name: &str, buf: &[u8]) -> Result<Arc<HigherOrderUDF>> {
        self.inner.try_decode_higher_order_function(name, buf)
    }

    fn try_encode_higher_order_function(&self, node: &HigherOrderUDF, buf: &mut Vec<u8>) -> Result<()> {
        self.inner.try_encode_higher_order_function(node, buf)
    }

    fn try_decode_expr(
        &self,
        buf: &[u8],
        inputs: &[Arc<dyn PhysicalExpr>],
        context: &PhysicalExprDecodeCtx<'_>,
    ) -> Result<Arc<dyn PhysicalExpr>> {
        self.inner.try_decode_expr(buf, inputs, context)
    }

    fn try_encode_expr(
        &self,
        node: &Arc<dyn PhysicalExpr>,
        buf: &mut Vec<u8>,
        context: &PhysicalExprEncodeCtx<'_>,
    ) -> Result<()> {
        self.inner.try_encode_expr(node, buf, context)
    }

    fn try_decode_udaf(&self, name: &str, buf: &[u8]) -> Result<Arc<AggregateUDF>> {
        self.inner.try_decode_udaf(name, buf)
    }

    fn try_encode_udaf(&self, node: &AggregateUDF, buf: &mut Vec<u8>) -> Result<()> {
        self.inner.try_encode_udaf(node, buf)
    }

    fn try_decode_udwf(&self, name: &str, buf: &[u8]) -> Result<Arc<WindowUDF>> {
        self.inner.try_decode_udwf(name, buf)
    }

    fn try_encode_udwf(&self, node: &WindowUDF, buf: &mut Vec<u8>) -> Result<()> {
        self.inner.try_encode_udwf(node, buf)
    }
}

impl PlanCodec {
    fn encode_scan(&self, config: &FileScanConfig, converter: &dyn PhysicalProtoConverterExtension) -> Result<Scan> {
        let source = config.file_source();
        let named = source.downcast_ref::<NamedSource>();
        let source = named.map_or(source, NamedSource::inner);
        let (source, reader) = match source.downcast_ref::<RowSource>() {
            Some(rows) => (in_place_of(rows)?, to_json(&rows.kind())?),
            None => (Arc::clone(source), Vec::new()),
        };
        let compression = config.file_compression_type.get_variant().to_string();
        let any_case = config.expr_adapter_factory.is_some();
        let config = FileScanConfigBuilder::from(config.clone()).with_source(source).build();
        let scan: Arc<dyn ExecutionPlan> = DataSourceExec::from_data_source(config);
        let scan = converter.execution_plan_to_proto(&scan, self)?;
        Ok(Scan { scan: Some(scan), compression, any_case, named: named.is_some(), reader })
    }

    fn decode_scan(
        &self,
        wire: Scan,
        context: &TaskContext,
        converter: &dyn PhysicalProtoConverterExtension,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let node = wire.scan.ok_or_else(|| internal_datafusion_err!("a scan without its files"))?;
        let plan = converter.proto_to_execution_plan(&node, &PhysicalPlanDecodeContext::new(context, self))?;
        let config = file_scan(&plan).ok_or_else(|| internal_datafusion_err!("not a scan of files"))?;
        let compression: CompressionTypeVariant = wire.compression.parse()?;
        let mut scan = FileScanConfigBuilder::from(config.clone())
            .with_file_compression_type(FileCompressionType::from(compression));
        if wire.any_case {
            scan = scan.with_expr_adapter(Some(Arc::new(AnyCase)));
        }
        if !wire.reader.is_empty() {
            let source = config.file_source();
            let reader = from_json::<ReaderKind>(&wire.reader)?;
            scan = scan.with_source(RowSource::reading(reader, source.table_schema(), source.projection())?);
        }
        let plan: Arc<dyn ExecutionPlan> = DataSourceExec::from_data_source(scan.build());
        Ok(if wire.named { name_files(plan) } else { plan })
    }
}

/// The scan of files that a plan is.
pub(crate) fn file_scan(plan: &Arc<dyn ExecutionPlan>) -> Option<&FileScanConfig> {
    plan.downcast_ref::<DataSourceExec>()?.data_source().downcast_ref::<FileScanConfig>()
}

/// A source of DataFusion's with the same columns and projection, which it can write.
fn in_place_of(rows: &RowSource) -> Result<Arc<dyn FileSource>> {
    let json = JsonSource::new(rows.table_schema().clone());
    let Some(projection) = rows.projection() else { return Ok(Arc::new(json)) };
    let projected = json.try_pushdown_projection(projection)?;
    projected.ok_or_else(|| internal_datafusion_err!("a projection that JSON does not take"))
}

fn to_json(value: &impl serde::Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|error| DataFusionError::External(error.into()))
}

fn from_json<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|error| DataFusionError::External(error.into()))
}

#[cfg(test)]
pub(crate) mod tests;
