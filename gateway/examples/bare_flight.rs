//! The crate `arrow-flight` with nothing around it: one result, made beforehand, sent to whoever asks. What
//! `benches/flight_result.py` compares Tereza's Flight SQL with.
//!
//! `bare_flight ROWS` prints its port and serves until its standard input ends.

use std::io::Read;
use std::pin::Pin;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use arrow_flight::encode::FlightDataEncoderBuilder;
use arrow_flight::flight_service_server::{FlightService, FlightServiceServer};
use arrow_flight::{
    Action, ActionType, Criteria, Empty, FlightData, FlightDescriptor, FlightInfo, HandshakeRequest, HandshakeResponse,
    PollInfo, PutResult, SchemaResult, Ticket,
};
use futures::stream::{self, Stream, StreamExt, TryStreamExt};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, Streaming, async_trait};

/// Rows of a batch, as Tereza's.
const BATCH_ROWS: i64 = 16_384;

type Answer<T> = Result<Response<T>, Status>;
type Items<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

struct Bare {
    batches: Vec<RecordBatch>,
}

#[async_trait]
impl FlightService for Bare {
    type DoGetStream = Items<FlightData>;
    type HandshakeStream = Items<HandshakeResponse>;
    type ListFlightsStream = Items<FlightInfo>;
    type DoPutStream = Items<PutResult>;
    type DoExchangeStream = Items<FlightData>;
    type DoActionStream = Items<arrow_flight::Result>;
    type ListActionsStream = Items<ActionType>;

    async fn do_get(&self, _: Request<Ticket>) -> Answer<Self::DoGetStream> {
        let batches = stream::iter(self.batches.clone().into_iter().map(Ok));
        Ok(Response::new(FlightDataEncoderBuilder::new().build(batches).map_err(Status::from).boxed()))
    }

    async fn handshake(&self, _: Request<Streaming<HandshakeRequest>>) -> Answer<Self::HandshakeStream> {
        Err(only_do_get())
    }

    async fn list_flights(&self, _: Request<Criteria>) -> Answer<Self::ListFlightsStream> {
        Err(only_do_get())
    }

    async fn get_flight_info(&self, _: Request<FlightDescriptor>) -> Answer<FlightInfo> {
        Err(only_do_get())
    }

    async fn poll_flight_info(&self, _: Request<FlightDescriptor>) -> Answer<PollInfo> {
        Err(only_do_get())
    }

    async fn get_schema(&self, _: Request<FlightDescriptor>) -> Answer<SchemaResult> {
        Err(only_do_get())
    }

    async fn do_put(&self, _: Request<Streaming<FlightData>>) -> Answer<Self::DoPutStream> {
        Err(only_do_get())
    }

    async fn do_exchange(&self, _: Request<Streaming<FlightData>>) -> Answer<Self::DoExchangeStream> {
        Err(only_do_get())
    }

    async fn do_action(&self, _: Request<Action>) -> Answer<Self::DoActionStream> {
        Err(only_do_get())
    }

    async fn list_actions(&self, _: Request<Empty>) -> Answer<Self::ListActionsStream> {
        Err(only_do_get())
    }
}

fn only_do_get() -> Status {
    Status::unimplemented("only DoGet")
}

/// `value` from 1 to `rows`, and `twice`, in batches.
fn batches(rows: i64) -> Result<Vec<RecordBatch>, arrow::error::ArrowError> {
    (0..((rows + BATCH_ROWS - 1) / BATCH_ROWS))
        .map(|batch| {
            let values = batch * BATCH_ROWS + 1..=rows.min((batch + 1) * BATCH_ROWS);
            let value: ArrayRef = Arc::new(Int64Array::from_iter_values(values.clone()));
            let twice: ArrayRef = Arc::new(Int64Array::from_iter_values(values.map(|value| value * 2)));
            RecordBatch::try_from_iter([("value", value), ("twice", twice)])
        })
        .collect()
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let rows: i64 = std::env::args().nth(1).ok_or("usage: bare_flight ROWS")?.parse()?;
    let batches = batches(rows)?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?.port());
    std::thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
    let service = FlightServiceServer::new(Bare { batches });
    tonic::transport::Server::builder()
        .add_service(service)
        .serve_with_incoming(TcpListenerStream::new(listener))
        .await?;
    Ok(())
}
