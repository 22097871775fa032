//! A call and its answer: what a method takes and gives, how a service is asked, and how an answer is written and read.

use std::fmt;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use tokio::time::timeout;
use tracing::error;

use crate::codec::{
    ApplicationException, Chunks, DecodeError, FieldReader, Form, Header, Limits, MessageType, Reader, Record, SentAs,
    Wire, Writer, kind,
};

/// The name that metrics have for every method that is not in the interface, so that callers cannot make new names.
const UNKNOWN_METHOD_NAME: &str = "unknown";

/// A method, named by its arguments.
pub trait Method: Record + Send {
    /// What it returns; `()` for nothing.
    type Reply: Wire + Send;
    /// What it may answer instead.
    type Exception: Exceptions;
    /// Whether there is no answer at all.
    const IS_ONEWAY: bool = false;
    /// The exceptions that it declares: the field of the answer and the [`Exceptions::index`] of each.
    const THROWS: &'static [(i16, usize)];
}

/// The exceptions of an interface in one type.
pub trait Exceptions: Sized + Send + fmt::Debug {
    /// The exception for failures that have none of their own.
    fn general(message: String) -> Self;
    /// Thrift's own exception.
    fn application(exception: ApplicationException) -> Self;
    /// Which of the exceptions of the interface this is; another number for Thrift's own.
    fn index(&self) -> usize;
    /// Thrift's own exception, if this is it.
    fn as_application(&self) -> Option<&ApplicationException>;
    /// Its name in the interface.
    fn name(&self) -> &'static str;
    /// What it says.
    fn message(&self) -> &str;
    /// Writes it as a field of an answer.
    fn write(&self, id: i16, writer: &mut Writer);
    /// Reads the exception with the index, if the field has the type of one.
    fn read(index: usize, field: FieldReader<'_, '_>) -> Result<Option<Self>, DecodeError>;
}

/// How a call ended, for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// With its result.
    Ok,
    /// With an exception of the interface.
    Exception,
    /// There is no such method here.
    UnknownMethod,
    /// What was sent could not be read as the arguments.
    BadArguments,
    /// The result was larger than the bound.
    TooLarge,
    /// With a failure that no declared exception could say.
    Internal,
}

impl Outcome {
    /// The word for labels.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Exception => "exception",
            Self::UnknownMethod => "unknown_method",
            Self::BadArguments => "bad_arguments",
            Self::TooLarge => "too_large",
            Self::Internal => "internal",
        }
    }
}

/// The future of an answer.
pub type Answering<'a> = Pin<Box<dyn Future<Output = Answer> + Send + 'a>>;

/// What answers the calls of one connection. Implemented for every [`crate::hive::HiveMetastore`].
pub trait Service: Send + Sync + 'static {
    /// The exceptions of its interface.
    type Exception: Exceptions;

    /// Answers one call.
    fn call<'a>(&'a self, call: Call<'a>) -> Answering<'a>;

    /// What is answered for a result of more than `limit_bytes`.
    fn result_too_large(&self, method: &'static str, limit_bytes: usize) -> Self::Exception;

    /// The answer to a call is sent, or nobody waits for it.
    fn answered(&self) {}
}

/// An answer, ready to be sent.
pub struct Answer {
    /// The method, as metrics name it.
    pub(crate) method: &'static str,
    pub(crate) outcome: Outcome,
    /// Nothing if the caller expects no answer.
    pub(crate) message: Option<Chunks>,
}

/// A call whose bytes are all there.
pub struct Call<'a> {
    header: &'a Header,
    /// The arguments, and whatever else a frame had after them.
    args: &'a [u8],
    limits: &'a Limits,
    reply_limit_bytes: usize,
    /// How long the method may take.
    timeout: Duration,
}

impl<'a> Call<'a> {
    pub(crate) fn new(
        header: &'a Header,
        args: &'a [u8],
        limits: &'a Limits,
        reply_limit_bytes: usize,
        timeout: Duration,
    ) -> Self {
        Self { header, args, limits, reply_limit_bytes, timeout }
    }

    /// The method, or nothing that is one if its name is not text.
    pub fn method(&self) -> &'a str {
        std::str::from_utf8(&self.header.name).unwrap_or_default()
    }

    /// Reads the arguments, lets `run` do the method, and writes its answer.
    pub async fn answer<S, M, F, R, A>(self, service: &S, run: F) -> Answer
    where
        S: Service,
        M: Method<Exception = S::Exception>,
        F: FnOnce(M) -> R,
        R: Future<Output = Result<A, S::Exception>> + Send,
        A: SentAs<M::Reply>,
    {
        let args = match Reader::new(self.args, self.limits).record::<M>() {
            Ok(args) => args,
            Err(error) => {
                let message = format!("{}: {error}", M::NAME);
                let exception = ApplicationException::new(ApplicationException::PROTOCOL_ERROR, message);
                return self.failed(M::NAME, Outcome::BadArguments, &exception);
            }
        };
        let limit = self.timeout;
        let Ok(result) = timeout(limit, guarded(async { run(args).await })).await else {
            let text = format!("{} took longer than {limit:?} (call_timeout) and was given up", M::NAME);
            return self.threw::<M>(M::Exception::general(text));
        };
        let Some(result) = result else {
            error!(method = M::NAME, "a call panicked");
            let text = format!("Internal error processing {}", M::NAME);
            let exception = ApplicationException::new(ApplicationException::INTERNAL_ERROR, text);
            return self.failed(M::NAME, Outcome::Internal, &exception);
        };
        if M::IS_ONEWAY || self.header.kind == MessageType::Oneway {
            let outcome = if result.is_ok() { Outcome::Ok } else { Outcome::Internal };
            return Answer { method: M::NAME, outcome, message: None };
        }
        match result {
            Ok(reply) => match self.write::<M, A>(&Ok(reply)) {
                Some(message) => Answer { method: M::NAME, outcome: Outcome::Ok, message: Some(message) },
                None => {
                    let exception = service.result_too_large(M::NAME, self.reply_limit_bytes);
                    Answer { outcome: Outcome::TooLarge, ..self.threw::<M>(exception) }
                }
            },
            Err(exception) => self.threw::<M>(exception),
        }
    }

    /// The answer to a method that is not in the interface.
    pub fn unknown(self) -> Answer {
        let exception = ApplicationException::unknown_method(&self.header.method());
        self.failed(UNKNOWN_METHOD_NAME, Outcome::UnknownMethod, &exception)
    }

    /// An exception that the method declares; the general one in place of one that it does not declare; Thrift's own if it
    /// declares neither.
    fn threw<M: Method>(&self, exception: M::Exception) -> Answer {
        let is_declared = |exception: &M::Exception| M::THROWS.iter().any(|(_, index)| *index == exception.index());
        let text = format!("{}: {}", exception.name(), exception.message());
        if is_declared(&exception) {
            return self.declared::<M>(exception, text);
        }
        if let Some(own) = exception.as_application() {
            let is_unknown = own.code == ApplicationException::UNKNOWN_METHOD;
            let outcome = if is_unknown { Outcome::UnknownMethod } else { Outcome::Internal };
            return self.failed(M::NAME, outcome, own);
        }
        let general = M::Exception::general(text.clone());
        if is_declared(&general) {
            return self.declared::<M>(general, text);
        }
        let own = ApplicationException::new(ApplicationException::INTERNAL_ERROR, text);
        self.failed(M::NAME, Outcome::Internal, &own)
    }

    fn declared<M: Method>(&self, exception: M::Exception, text: String) -> Answer {
        match self.write::<M, M::Reply>(&Err(exception)) {
            Some(message) => Answer { method: M::NAME, outcome: Outcome::Exception, message: Some(message) },
            None => {
                let own = ApplicationException::new(ApplicationException::INTERNAL_ERROR, text);
                self.failed(M::NAME, Outcome::Internal, &own)
            }
        }
    }

    fn write<M: Method, A: SentAs<M::Reply>>(&self, result: &Result<A, M::Exception>) -> Option<Chunks> {
        let mut writer = Writer::new(self.reply_limit_bytes);
        self.header.answer(MessageType::Reply).write(&mut writer);
        write_result::<M, A>(result, &mut writer);
        writer.finish()
    }

    /// Thrift's own exception, unless nobody waits for an answer.
    pub(crate) fn failed(&self, method: &'static str, outcome: Outcome, exception: &ApplicationException) -> Answer {
        let is_awaited = self.header.kind != MessageType::Oneway;
        Answer { method, outcome, message: is_awaited.then(|| failure(self.header, exception)) }
    }
}

/// The output of a future, or nothing if it panics: that is the failure of one call and not of its connection.
async fn guarded<T>(future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    poll_fn(|context| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context))) {
        Ok(poll) => poll.map(Some),
        Err(_) => Poll::Ready(None),
    })
    .await
}

/// The message of Thrift's own exception. Its text is cut to what surely fits.
pub(crate) fn failure(header: &Header, exception: &ApplicationException) -> Chunks {
    const TEXT_LIMIT_CHARS: usize = 16_384;
    const ROOM_BYTES: usize = 1 << 20;
    let message: String = exception.message.chars().take(TEXT_LIMIT_CHARS).collect();
    let mut writer = Writer::new(ROOM_BYTES);
    header.answer(MessageType::Exception).write(&mut writer);
    writer.record(&ApplicationException { message, code: exception.code });
    writer.finish().unwrap_or_default()
}

/// The message of a call.
pub(crate) fn request<M: Method>(args: &M, sequence: i32, limit_bytes: usize) -> Option<Chunks> {
    let kind = if M::IS_ONEWAY { MessageType::Oneway } else { MessageType::Call };
    let header = Header { name: M::NAME.as_bytes().to_vec(), kind, sequence, form: Form::Strict };
    let mut writer = Writer::new(limit_bytes);
    header.write(&mut writer);
    writer.record(args);
    writer.finish()
}

fn write_result<M: Method, A: SentAs<M::Reply>>(result: &Result<A, M::Exception>, writer: &mut Writer) {
    match result {
        Ok(reply) => {
            if M::Reply::TYPE != kind::VOID {
                writer.field(0, M::Reply::TYPE);
                reply.write_as(writer);
            }
        }
        Err(exception) => {
            if let Some((id, _)) = M::THROWS.iter().find(|(_, index)| *index == exception.index()) {
                exception.write(*id, writer);
            }
        }
    }
    writer.stop();
}

/// What a method answers.
pub(crate) type Replied<M> = Result<<M as Method>::Reply, <M as Method>::Exception>;

/// Reads what [`write_result`] writes; nothing if there is neither a result nor an exception that the method declares.
pub(crate) fn read_result<M: Method>(reader: &mut Reader<'_>) -> Result<Option<Replied<M>>, DecodeError> {
    let mut result = None;
    if M::Reply::TYPE == kind::VOID {
        result = Some(Ok(M::Reply::read(reader)?));
    }
    loop {
        let ty = reader.byte()?;
        if ty == kind::STOP {
            return Ok(result);
        }
        let id = i16::from_be_bytes(reader.array()?);
        let field = FieldReader::new(reader, ty, id);
        let thrown = M::THROWS.iter().find(|(declared, _)| *declared == id);
        match (id, thrown) {
            (0, _) => result = field.value()?.map(Ok).or(result),
            (_, Some((_, index))) => result = M::Exception::read(*index, field)?.map(Err).or(result),
            _ => field.skip()?,
        }
    }
}
