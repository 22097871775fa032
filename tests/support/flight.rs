//! A Flight SQL session of arrow-flight's own client.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow_flight::sql::client::FlightSqlServiceClient;
use futures::TryStreamExt;
use tonic::transport::{Channel, Endpoint};

/// What a statement or the connection failed with.
pub(crate) type Error = arrow_flight::error::FlightError;

/// One session.
pub(crate) struct Session {
    client: FlightSqlServiceClient<Channel>,
}

impl Session {
    /// Connects and shakes hands, so that the server makes a session for this client alone.
    pub(crate) async fn open(url: &str) -> Self {
        let endpoint = Endpoint::from_shared(url.to_string()).expect("URL");
        let channel = endpoint.connect().await.unwrap_or_else(|error| panic!("{url} does not answer: {error}"));
        let mut client = FlightSqlServiceClient::new(channel);
        client.handshake("tester", "").await.expect("handshake");
        Self { client }
    }

    /// Runs one statement to its end.
    pub(crate) async fn run(&mut self, sql: &str) -> Result<(SchemaRef, Vec<RecordBatch>), Error> {
        let info = self.client.execute(sql.to_string(), None).await?;
        let promised = info.clone().try_decode_schema().map_err(Error::Arrow)?;
        let mut batches = Vec::new();
        for endpoint in info.endpoint {
            let ticket = endpoint.ticket.ok_or_else(|| Error::ProtocolError("an endpoint without a ticket".into()))?;
            let stream = self.client.do_get(ticket).await?;
            batches.extend(stream.try_collect::<Vec<_>>().await?);
        }
        for batch in &batches {
            assert_eq!(
                batch.schema().as_ref(),
                &promised,
                "the schema of the data is not the one of FlightInfo: {sql}"
            );
        }
        Ok((std::sync::Arc::new(promised), batches))
    }
}
