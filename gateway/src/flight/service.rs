//! The methods of Flight: which command each request carries, and what answers it.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use arrow_flight::flight_descriptor::DescriptorType;
use arrow_flight::flight_service_server::FlightService;
use arrow_flight::sql::{
    ActionCancelQueryRequest, ActionCancelQueryResult, ActionClosePreparedStatementRequest,
    ActionCreatePreparedStatementRequest, Any, Command, DoPutPreparedStatementResult, DoPutUpdateResult,
    ProstMessageExt,
};
use arrow_flight::{
    Action, ActionType, CancelFlightInfoRequest, CancelFlightInfoResult, Criteria, Empty, FlightData, FlightDescriptor,
    FlightInfo, HandshakeRequest, HandshakeResponse, PollInfo, PutResult, RenewFlightEndpointRequest, SchemaResult,
    Ticket,
};
use bytes::Bytes;
use futures::{Stream, stream};
use prost::Message;
use tereza_engine::query::QueryService;
use tereza_runtime::clock::Clock;
use tereza_runtime::{Error, ErrorKind, Result};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::{Request, Response, Status, Streaming};

use super::decode::Upload;
use super::encode::{Rows, Sending, schema_bytes};
use super::info as server;
use super::messages::{
    CANCELLED, CloseSessionRequest, CloseSessionResult, CloseSessionStatus, GetSessionOptionsRequest,
    GetSessionOptionsResult, OptionError, OptionErrorValue, OptionValue, SessionOptionValue, SetSessionOptionsRequest,
    SetSessionOptionsResult,
};
use super::metadata::{self, Facts};
use super::session::{Caller, Session, Sessions};
use super::statements::{handle_of, info, no_transactions, timestamp};
use super::tickets::Tickets;
use crate::Settings;
use crate::status::{ascii, status};

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// The actions and what each does, in the order in which they are listed.
const ACTIONS: [(&str, &str); 9] = [
    (
        "CreatePreparedStatement",
        "prepares a statement: ActionCreatePreparedStatementRequest to ActionCreatePreparedStatementResult",
    ),
    ("ClosePreparedStatement", "closes a prepared statement: ActionClosePreparedStatementRequest"),
    ("CancelQuery", "cancels a statement: ActionCancelQueryRequest to ActionCancelQueryResult"),
    ("CancelFlightInfo", "cancels a statement: CancelFlightInfoRequest to CancelFlightInfoResult"),
    (
        "RenewFlightEndpoint",
        "keeps a result that is not fetched yet for longer: RenewFlightEndpointRequest to FlightEndpoint",
    ),
    ("SetSessionOptions", "sets options of the session: SetSessionOptionsRequest to SetSessionOptionsResult"),
    ("GetSessionOptions", "the options of the session: GetSessionOptionsRequest to GetSessionOptionsResult"),
    ("CloseSession", "ends the session: CloseSessionRequest to CloseSessionResult"),
    ("GetProgress", "how far the statement is that the session submitted last: to JSON, or to nothing if none runs"),
];

/// The state of one Flight SQL server.
pub(crate) struct Gateway {
    service: Arc<dyn QueryService>,
    settings: Settings,
    sessions: Sessions,
    tickets: Arc<Tickets>,
    sending: Sending,
    facts: Facts,
    draining: CancellationToken,
    abort: CancellationToken,
}

impl Gateway {
    pub(crate) fn new(
        service: Arc<dyn QueryService>,
        settings: Settings,
        draining: CancellationToken,
        abort: CancellationToken,
    ) -> Result<Self> {
        let clock = Clock::system();
        Ok(Self {
            sessions: Sessions::new(Arc::clone(&service), &settings, clock.clone()),
            tickets: Arc::new(Tickets::new(&settings, clock)),
            sending: Sending {
                message_limit_bytes: settings.message_limit_bytes,
                idle_timeout: Duration::from_millis(settings.stream_idle_timeout_ms),
                tasks: TaskTracker::new(),
            },
            facts: Facts {
                sql_info: server::sql_info(service.words(), &settings)?,
                types: server::types()?,
                views: settings.views,
            },
            service,
            settings,
            draining,
            abort,
        })
    }

    pub(super) fn service(&self) -> &Arc<dyn QueryService> {
        &self.service
    }

    pub(super) fn settings(&self) -> &Settings {
        &self.settings
    }

    pub(super) fn tickets(&self) -> &Arc<Tickets> {
        &self.tickets
    }

    /// Owns the tasks of the server.
    pub(super) fn tasks(&self) -> &TaskTracker {
        &self.sending.tasks
    }

    /// What cancels a new statement; cancelled itself when the server ends.
    pub(super) fn cancellation(&self) -> CancellationToken {
        self.abort.child_token()
    }

    /// Ends what nobody uses any more.
    pub(super) async fn sweep(&self) {
        self.tickets.sweep();
        self.sessions.sweep().await;
    }

    /// Ends everything, after the last connection is closed.
    pub(super) async fn close(&self) {
        self.tickets.close_all();
        self.tasks().close();
        self.tasks().wait().await;
        self.sessions.close_all().await;
    }

    async fn enter<T>(&self, method: &'static str, request: &Request<T>) -> Result<Caller> {
        metrics::counter!("tereza_flight_requests_total", "method" => method).increment(1);
        self.refuse_while_draining()?;
        self.sessions.caller(request.metadata(), request.extensions()).await
    }

    fn refuse_while_draining(&self) -> Result<()> {
        match self.draining.is_cancelled() {
            true => Err(Error::unavailable("the server shuts down")),
            false => Ok(()),
        }
    }

    async fn flight_info(&self, caller: &Caller, descriptor: FlightDescriptor) -> Result<FlightInfo> {
        let command = command_of(&descriptor)?;
        match self.planned(caller, &command).await? {
            Some(rows) => self.info_with_ticket(&caller.session, rows, descriptor),
            None => self.metadata_info(&command, descriptor),
        }
    }

    async fn poll_info(&self, caller: &Caller, descriptor: FlightDescriptor) -> Result<PollInfo> {
        let command = command_of(&descriptor)?;
        if let Command::TicketStatementQuery(started) = &command {
            return self.poll_again(&caller.session, &started.statement_handle).await;
        }
        match self.planned(caller, &command).await? {
            Some(rows) => self.start(&caller.session, rows).await,
            // There at once.
            None => Ok(PollInfo {
                info: Some(self.metadata_info(&command, descriptor)?),
                flight_descriptor: None,
                progress: Some(1.0),
                expiration_time: None,
            }),
        }
    }

    /// The rows of a command that runs a statement, or `None` for other commands.
    async fn planned(&self, caller: &Caller, command: &Command) -> Result<Option<Rows>> {
        Ok(match command {
            Command::CommandStatementQuery(statement) => {
                let transaction = statement.transaction_id.as_ref();
                Some(self.rows_of_text(&caller.session, statement.query.clone(), transaction).await?)
            }
            Command::CommandPreparedStatementQuery(prepared) => {
                Some(self.rows_of_prepared(&caller.session, &prepared.prepared_statement_handle).await?)
            }
            _ => None,
        })
    }

    fn metadata_info(&self, command: &Command, descriptor: FlightDescriptor) -> Result<FlightInfo> {
        let schema = metadata::schema(command, &self.facts).ok_or_else(|| unsupported(command))?;
        let ticket = Ticket::new(descriptor.cmd.clone());
        info(&schema, descriptor, Some(ticket))
    }

    async fn schema(&self, caller: &Caller, descriptor: FlightDescriptor) -> Result<SchemaResult> {
        let command = command_of(&descriptor)?;
        let schema = match command {
            Command::CommandStatementQuery(statement) => self.schema_of_text(&caller.session, statement.query).await?,
            Command::CommandPreparedStatementQuery(prepared) => {
                self.schema_of_prepared(&caller.session, &prepared.prepared_statement_handle).await?
            }
            other => metadata::schema(&other, &self.facts).ok_or_else(|| unsupported(&other))?,
        };
        Ok(SchemaResult { schema: schema_bytes(&schema)? })
    }

    async fn get(&self, caller: &Caller, ticket: Ticket) -> Result<Answers<FlightData>> {
        let session = &caller.session;
        let rows = match command(&ticket.ticket)? {
            Command::TicketStatementQuery(ticket) => {
                let fetched = self.tickets.fetch(&ticket.statement_handle, &session.user)?;
                let kept = (fetched.removal, Arc::clone(session));
                return Ok(self.sending.stream(fetched.rows, fetched.cancellation, kept));
            }
            Command::CommandPreparedStatementQuery(prepared) => {
                self.rows_of_prepared(session, &prepared.prepared_statement_handle).await?
            }
            other => {
                let refusal = unsupported(&other);
                let batch = metadata::batch(&*self.service, &session.id, other, &self.facts).await?;
                Rows::of_batch(batch.ok_or(refusal)?)
            }
        };
        Ok(self.sending.stream(rows, self.cancellation(), Arc::clone(session)))
    }

    async fn put(&self, caller: &Caller, messages: Streaming<FlightData>) -> Result<Bytes> {
        let session = &caller.session;
        let upload = Upload::open(messages, self.sending.idle_timeout).await?;
        let record_count = match command_of(&upload.descriptor)? {
            Command::CommandStatementUpdate(update) => self.update(session, update).await?,
            Command::CommandPreparedStatementUpdate(update) => {
                self.update_prepared(session, &update.prepared_statement_handle, upload).await?
            }
            Command::CommandStatementIngest(ingest) => self.ingest(session, ingest, upload).await?,
            Command::CommandPreparedStatementQuery(prepared) => {
                let handle = prepared.prepared_statement_handle;
                self.bind(session, &handle, upload).await?;
                let result = DoPutPreparedStatementResult { prepared_statement_handle: Some(handle) };
                return Ok(result.encode_to_vec().into());
            }
            other => return Err(unsupported(&other)),
        };
        Ok(DoPutUpdateResult { record_count }.encode_to_vec().into())
    }

    /// What an action answers: at most one message.
    async fn act(&self, caller: &Caller, action: Action) -> Result<Option<Vec<u8>>> {
        let session = &caller.session;
        let answer =
            match action.r#type.as_str() {
                "CreatePreparedStatement" => {
                    let request: ActionCreatePreparedStatementRequest = unpack(&action.body)?;
                    self.prepare(session, request).await?.into_any().encode_to_vec()
                }
                "ClosePreparedStatement" => {
                    let request: ActionClosePreparedStatementRequest = unpack(&action.body)?;
                    session.forget(&request.prepared_statement_handle);
                    return Ok(None);
                }
                "CancelQuery" => {
                    let request: ActionCancelQueryRequest = unpack(&action.body)?;
                    self.cancel(session, &read::<FlightInfo>(&request.info)?)?;
                    ActionCancelQueryResult { result: CANCELLED }.as_any().encode_to_vec()
                }
                "CancelFlightInfo" => {
                    let request: CancelFlightInfoRequest = read(&action.body)?;
                    self.cancel(session, &request.info.unwrap_or_default())?;
                    CancelFlightInfoResult { status: CANCELLED }.encode_to_vec()
                }
                "RenewFlightEndpoint" => {
                    let request: RenewFlightEndpointRequest = read(&action.body)?;
                    let mut endpoint = request.endpoint.unwrap_or_default();
                    let ticket = endpoint.ticket.clone().unwrap_or_default().ticket;
                    let expires_ms = self.tickets.renew(&handle_of(&ticket).unwrap_or_default(), &session.user)?;
                    endpoint.expiration_time = Some(timestamp(expires_ms));
                    endpoint.encode_to_vec()
                }
                "SetSessionOptions" => self.set_options(session, read(&action.body)?).await?.encode_to_vec(),
                "GetSessionOptions" => {
                    let GetSessionOptionsRequest {} = read(&action.body)?;
                    let options =
                        self.service.options(&session.id).await?.into_iter().map(|(name, value)| {
                            (name, SessionOptionValue { value: Some(OptionValue::String(value)) })
                        });
                    GetSessionOptionsResult { session_options: options.collect() }.encode_to_vec()
                }
                "CloseSession" => {
                    let CloseSessionRequest {} = read(&action.body)?;
                    self.tickets.close(session);
                    self.sessions.close(session).await?;
                    CloseSessionResult { status: CloseSessionStatus::Closed as i32 }.encode_to_vec()
                }
                "GetProgress" => match self.service.progress(&session.id).await? {
                    Some(reading) => serde_json::to_vec(&reading)
                        .map_err(|error| Error::internal(format!("progress cannot be written: {error}")))?,
                    None => return Ok(None),
                },
                "BeginTransaction" | "EndTransaction" | "BeginSavepoint" | "EndSavepoint" => {
                    return Err(no_transactions());
                }
                "CreatePreparedSubstraitPlan" => {
                    return Err(Error::unsupported("Substrait plans are not supported; send SQL"));
                }
                other => return Err(Error::unsupported(format!("the action '{other}' is not supported"))),
            };
        Ok(Some(answer))
    }

    /// Cancels the statement of an info, by its tickets or by the descriptor to poll it with.
    fn cancel(&self, session: &Session, info: &FlightInfo) -> Result<()> {
        let tickets = info.endpoint.iter().filter_map(|endpoint| endpoint.ticket.as_ref()).map(|ticket| &ticket.ticket);
        let descriptor = info.flight_descriptor.as_ref().map(|descriptor| &descriptor.cmd);
        let mut cancelled = Err(Error::not_found("the flight info names no statement that runs here"));
        for name in tickets.chain(descriptor) {
            if let Some(handle) = handle_of(name) {
                cancelled = self.tickets.cancel(&handle, &session.user);
            }
            if cancelled.is_ok() {
                break;
            }
        }
        cancelled
    }

    async fn set_options(
        &self,
        session: &Session,
        request: SetSessionOptionsRequest,
    ) -> Result<SetSessionOptionsResult> {
        let mut result = SetSessionOptionsResult::default();
        for (name, SessionOptionValue { value }) in request.session_options {
            let text = match value {
                Some(OptionValue::String(text)) => Some(text),
                Some(OptionValue::Bool(value)) => Some(value.to_string()),
                Some(OptionValue::Int64(value)) => Some(value.to_string()),
                Some(OptionValue::Double(value)) => Some(value.to_string()),
                // Lists are no values of options, and an option cannot be unset.
                Some(OptionValue::StringList(_)) | None => None,
            };
            let outcome = match text {
                Some(text) => self.service.set_option(&session.id, &name, &text).await,
                None => Err(Error::invalid_input("an option's value is a text, a number or a flag")),
            };
            if let Err(error) = outcome {
                // The answer has no room for words.
                tracing::debug!(option = %name, %error, "a session option was not set");
                let names_a_place = name == "catalog" || name == "schema";
                let value = match error.kind() {
                    ErrorKind::NotFound if !names_a_place => OptionErrorValue::InvalidName,
                    ErrorKind::Unsupported => OptionErrorValue::InvalidName,
                    ErrorKind::NotFound | ErrorKind::InvalidInput => OptionErrorValue::InvalidValue,
                    _ => OptionErrorValue::Error,
                };
                result.errors.insert(name, OptionError { value: value as i32 });
            }
        }
        Ok(result)
    }
}

#[tonic::async_trait]
impl FlightService for Gateway {
    type HandshakeStream = Answers<HandshakeResponse>;
    type ListFlightsStream = Answers<FlightInfo>;
    type DoGetStream = Answers<FlightData>;
    type DoPutStream = Answers<PutResult>;
    type DoExchangeStream = Answers<FlightData>;
    type DoActionStream = Answers<arrow_flight::Result>;
    type ListActionsStream = Answers<ActionType>;

    async fn handshake(
        &self,
        request: Request<Streaming<HandshakeRequest>>,
    ) -> Result<Response<Self::HandshakeStream>, Status> {
        metrics::counter!("tereza_flight_requests_total", "method" => "Handshake").increment(1);
        self.refuse_while_draining().map_err(status)?;
        let token = self.sessions.handshake(request.metadata(), request.extensions()).await.map_err(status)?;
        let answer = HandshakeResponse { protocol_version: 0, payload: token.clone().into() };
        let mut response = Response::new(one(answer));
        if let Some(value) = ascii(&format!("Bearer {token}")) {
            response.metadata_mut().insert("authorization", value);
        }
        Ok(response)
    }

    async fn list_flights(&self, request: Request<Criteria>) -> Result<Response<Self::ListFlightsStream>, Status> {
        self.enter("ListFlights", &request).await.map_err(status)?;
        Err(status(Error::unsupported("ListFlights is not supported; list tables with CommandGetTables")))
    }

    async fn get_flight_info(&self, request: Request<FlightDescriptor>) -> Result<Response<FlightInfo>, Status> {
        let caller = self.enter("GetFlightInfo", &request).await.map_err(status)?;
        respond(&caller, self.flight_info(&caller, request.into_inner()).await)
    }

    async fn poll_flight_info(&self, request: Request<FlightDescriptor>) -> Result<Response<PollInfo>, Status> {
        let caller = self.enter("PollFlightInfo", &request).await.map_err(status)?;
        respond(&caller, self.poll_info(&caller, request.into_inner()).await)
    }

    async fn get_schema(&self, request: Request<FlightDescriptor>) -> Result<Response<SchemaResult>, Status> {
        let caller = self.enter("GetSchema", &request).await.map_err(status)?;
        respond(&caller, self.schema(&caller, request.into_inner()).await)
    }

    async fn do_get(&self, request: Request<Ticket>) -> Result<Response<Self::DoGetStream>, Status> {
        let caller = self.enter("DoGet", &request).await.map_err(status)?;
        respond(&caller, self.get(&caller, request.into_inner()).await)
    }

    async fn do_put(&self, request: Request<Streaming<FlightData>>) -> Result<Response<Self::DoPutStream>, Status> {
        let caller = self.enter("DoPut", &request).await.map_err(status)?;
        let put = self.put(&caller, request.into_inner()).await;
        respond(&caller, put.map(|app_metadata| one(PutResult { app_metadata })))
    }

    async fn do_exchange(
        &self,
        request: Request<Streaming<FlightData>>,
    ) -> Result<Response<Self::DoExchangeStream>, Status> {
        self.enter("DoExchange", &request).await.map_err(status)?;
        Err(status(Error::unsupported("DoExchange is not supported; Flight SQL uses DoGet and DoPut")))
    }

    async fn do_action(&self, request: Request<Action>) -> Result<Response<Self::DoActionStream>, Status> {
        let caller = self.enter("DoAction", &request).await.map_err(status)?;
        let answer = self.act(&caller, request.into_inner()).await;
        respond(
            &caller,
            answer.map(|body| -> Self::DoActionStream {
                match body {
                    Some(body) => one(arrow_flight::Result { body: body.into() }),
                    None => Box::pin(stream::empty()),
                }
            }),
        )
    }

    async fn list_actions(&self, request: Request<Empty>) -> Result<Response<Self::ListActionsStream>, Status> {
        let caller = self.enter("ListActions", &request).await.map_err(status)?;
        let actions =
            ACTIONS.map(|(name, what)| Ok(ActionType { r#type: name.to_owned(), description: what.to_owned() }));
        respond(&caller, Ok(Box::pin(stream::iter(actions)) as Self::ListActionsStream))
    }
}

fn respond<T>(caller: &Caller, outcome: Result<T>) -> Result<Response<T>, Status> {
    let mut response = Response::new(outcome.map_err(status)?);
    if let Some(cookie) = caller.set_cookie.as_deref().and_then(ascii) {
        response.metadata_mut().insert("set-cookie", cookie);
    }
    Ok(response)
}

fn one<T: Send + 'static>(answer: T) -> Answers<T> {
    Box::pin(stream::once(async { Ok(answer) }))
}

fn command_of(descriptor: &FlightDescriptor) -> Result<Command> {
    if descriptor.r#type() != DescriptorType::Cmd {
        return Err(Error::invalid_input("the descriptor must be a Flight SQL command (type CMD)"));
    }
    command(&descriptor.cmd)
}

fn command(bytes: &[u8]) -> Result<Command> {
    Command::try_from(read::<Any>(bytes)?)
        .map_err(|error| Error::invalid_input(format!("the command cannot be read: {error}")))
}

fn unsupported(command: &Command) -> Error {
    let name = command.type_url().rsplit('.').next().unwrap_or_default();
    match command {
        Command::CommandStatementSubstraitPlan(_) => Error::unsupported("Substrait plans are not supported; send SQL"),
        _ => Error::unsupported(format!("the command '{name}' is not supported in this method")),
    }
}

/// Reads a message that is packed in an `Any`, as Flight SQL packs its actions.
fn unpack<M: ProstMessageExt>(bytes: &[u8]) -> Result<M> {
    let any: Any = read(bytes)?;
    any.unpack()
        .map_err(|error| Error::invalid_input(format!("the action cannot be read: {error}")))?
        .ok_or_else(|| Error::invalid_input(format!("the action has a '{}', not a '{}'", any.type_url, M::type_url())))
}

fn read<M: Message + Default>(bytes: &[u8]) -> Result<M> {
    M::decode(bytes).map_err(|error| Error::invalid_input(format!("the request cannot be read: {error}")))
}
