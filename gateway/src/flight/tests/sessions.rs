//! Who gets which session.

use super::super::messages::{
    CloseSessionRequest, CloseSessionResult, CloseSessionStatus, GetSessionOptionsRequest, GetSessionOptionsResult,
    OptionErrorValue, OptionValue, SessionOptionValue, SetSessionOptionsRequest, SetSessionOptionsResult,
};
use super::*;

fn with_users() -> Settings {
    Settings { users: [("ada".to_owned(), "secret".to_owned())].into(), ..Settings::default() }
}

fn set(name: &str, value: OptionValue) -> SetSessionOptionsRequest {
    SetSessionOptionsRequest { session_options: [(name.to_owned(), SessionOptionValue { value: Some(value) })].into() }
}

async fn set_catalog(client: &mut FlightServiceClient<Channel>, catalog: &str) {
    let request = action("SetSessionOptions", set("catalog", OptionValue::String(catalog.into())));
    let result: SetSessionOptionsResult = act(client, request).await.unwrap();
    assert!(result.errors.is_empty());
}

#[tokio::test]
async fn only_who_is_known_may_enter() {
    let server = Server::start(with_users()).await;
    let mut client = server.client().await;
    let refusal = client.execute("user".into(), None).await.unwrap_err();
    assert_eq!(code(refusal).0, Code::Unauthenticated);
    for (user, password) in [("ada", "Secret"), ("ada", ""), ("bob", "secret"), ("bob", "")] {
        let refusal = client.handshake(user, password).await.unwrap_err().to_string();
        assert!(refusal.contains("the user or the password is wrong"), "{refusal}");
    }
    client.set_token("made-up".into());
    let refusal = client.execute("user".into(), None).await.unwrap_err();
    assert_eq!(code(refusal).0, Code::Unauthenticated);
    client.clear_token();
    client.handshake("ada", "secret").await.unwrap();
    assert_eq!(text(&mut client, "user").await, "ada");
    // Static credentials with each request.
    let mut other = server.client().await;
    other.set_header("authorization", "Basic YWRhOnNlY3JldA");
    assert_eq!(text(&mut other, "user").await, "ada");
    other.set_header("authorization", "Digest x");
    assert_eq!(code(other.execute("user".into(), None).await.unwrap_err()).0, Code::Unauthenticated);
}

#[tokio::test]
async fn a_ticket_is_for_its_user_alone() {
    let mut settings = with_users();
    settings.users.insert("bob".into(), "b".into());
    let server = Server::start(settings).await;
    let (mut ada, mut bob) = (server.client().await, server.client().await);
    ada.handshake("ada", "secret").await.unwrap();
    bob.handshake("bob", "b").await.unwrap();
    let info = ada.execute("numbers 1".into(), None).await.unwrap();
    assert_eq!(code(bob.do_get(ticket_of(&info)).await.unwrap_err()).0, Code::NotFound);
    assert_eq!(numbers(&mut ada, info).await, [0]);
}

#[tokio::test]
async fn a_token_names_its_session_from_any_connection() {
    let server = Server::start(with_users()).await;
    let mut first = server.client().await;
    first.handshake("ada", "secret").await.unwrap();
    let token = first.token().unwrap().clone();
    first.execute("user".into(), None).await.unwrap();
    let mut second = server.client().await;
    second.set_token(token);
    let prepared = first.prepare("numbers 2".into(), None).await.unwrap();
    drop(first);
    let mut third = second.clone();
    let body = CommandGetCatalogs {};
    let info = second.inner_mut().get_flight_info(FlightDescriptor::new_cmd(body.as_any().encode_to_vec())).await;
    // Without the header, which `inner_mut` does not set.
    assert_eq!(info.unwrap_err().code(), Code::Unauthenticated);
    assert_eq!(text(&mut third, "user").await, "ada");
    assert_eq!(server.fake.sessions.lock().len(), 1);
    drop(prepared);
}

#[tokio::test]
async fn a_foreign_token_names_a_session_where_anyone_may_enter() {
    let server = Server::start(Settings::default()).await;
    let (mut first, mut second) = (server.client().await, server.client().await);
    first.set_token("a-token-of-a-driver".into());
    second.set_token("a-token-of-a-driver".into());
    text(&mut first, "user").await;
    text(&mut second, "user").await;
    assert_eq!(server.fake.sessions.lock().len(), 1);
}

#[tokio::test]
async fn without_token_and_cookie_the_connection_is_the_session() {
    let server = Server::start(Settings::default()).await;
    let (mut first, mut second) = (server.flight().await, server.flight().await);
    set_catalog(&mut first, "memory").await;
    let mut first = FlightSqlServiceClient::new_from_inner(first);
    assert_eq!(text(&mut first, "catalog").await, "memory");
    let mut again = FlightSqlServiceClient::new_from_inner(second.clone());
    assert_eq!(text(&mut again, "catalog").await, "tereza");
    set_catalog(&mut second, "tpch").await;
    assert_eq!(text(&mut again, "catalog").await, "tpch");
    assert_eq!(text(&mut first, "catalog").await, "memory");
    assert_eq!(server.fake.sessions.lock().len(), 2);
}

#[tokio::test]
async fn many_first_requests_at_once_share_one_session() {
    let server = Server::start(Settings::default()).await;
    let client = server.flight().await;
    let requests = (0..50).map(|_| {
        let mut client = client.clone();
        async move { client.get_flight_info(query("numbers 1")).await.unwrap() }
    });
    futures::future::join_all(requests).await;
    assert_eq!(server.fake.sessions.lock().len(), 1);
}

#[tokio::test]
async fn a_session_ends_with_its_connection_unless_its_cookie_came_back() {
    let settings = Settings { ticket_ttl_ms: 100, ..Settings::default() };
    let server = Server::start(settings).await;
    let mut client = server.flight().await;
    let request = action("SetSessionOptions", set("catalog", OptionValue::String("memory".into())));
    let answer = client.do_action(request).await.unwrap();
    let cookie = answer.metadata().get("set-cookie").unwrap().to_str().unwrap().to_owned();
    assert!(cookie.starts_with("arrow_flight_session_id="), "{cookie}");
    let mut with_cookie = server.client().await;
    with_cookie.set_header("cookie", format!("theme=dark; {cookie}"));
    assert_eq!(text(&mut with_cookie, "catalog").await, "memory");
    let mut plain = server.client().await;
    assert_eq!(text(&mut plain, "catalog").await, "tereza");
    assert_eq!(server.fake.sessions.lock().len(), 2);
    drop((client, plain));
    eventually("the session of the closed connection to end", || server.fake.sessions.lock().len() == 1).await;
    assert_eq!(text(&mut with_cookie, "catalog").await, "memory");
}

#[tokio::test]
async fn sessions_left_alone_make_room_for_new_ones() {
    let server = Server::start(with_users()).await;
    server.fake.sessions_max.store(3, std::sync::atomic::Ordering::SeqCst);
    let mut open = server.client().await;
    open.handshake("ada", "secret").await.unwrap();
    text(&mut open, "user").await;
    for _ in 0..10 {
        let mut client = server.client().await;
        // The connection before may not be known to be closed yet.
        let patience = tokio::time::timeout(PATIENCE, async {
            while client.handshake("ada", "secret").await.is_err() {
                tokio::task::yield_now().await;
            }
        });
        patience.await.expect("no room for a new session");
        assert_eq!(text(&mut client, "user").await, "ada");
    }
    assert_eq!(text(&mut open, "user").await, "ada");
    assert!(server.fake.sessions.lock().len() <= 3);
    // Connected sessions never go.
    let mut others = Vec::new();
    while others.len() < 2 {
        let mut client = server.client().await;
        if client.handshake("ada", "secret").await.is_ok() {
            others.push(client);
        }
    }
    let refusal = server.client().await.handshake("ada", "secret").await.unwrap_err().to_string();
    assert!(refusal.contains("too many sessions"), "{refusal}");
}

#[tokio::test]
async fn a_token_that_is_not_used_expires() {
    let settings = Settings { token_ttl_ms: 50, ..with_users() };
    let server = Server::start(settings).await;
    let mut client = server.client().await;
    client.handshake("ada", "secret").await.unwrap();
    eventually("the session to end", || server.fake.sessions.lock().is_empty()).await;
    assert_eq!(code(client.execute("user".into(), None).await.unwrap_err()).0, Code::Unauthenticated);
}

#[tokio::test]
async fn headers_say_what_a_session_starts_with() {
    let server = Server::start(Settings::default()).await;
    let mut client = server.client().await;
    client.set_header("catalog", "memory");
    assert_eq!(text(&mut client, "catalog").await, "memory");
}

#[tokio::test]
async fn options_are_set_read_and_refused_one_by_one() {
    let server = Server::start(Settings::default()).await;
    let mut client = server.flight().await;
    let text = |text: &str| SessionOptionValue { value: Some(OptionValue::String(text.into())) };
    let request = SetSessionOptionsRequest {
        session_options: [
            ("schema".to_owned(), text("s")),
            ("tereza.mode".to_owned(), SessionOptionValue { value: Some(OptionValue::Bool(true)) }),
            ("color".to_owned(), text("red")),
            ("catalog".to_owned(), text("nowhere")),
            ("list".to_owned(), SessionOptionValue { value: None }),
        ]
        .into(),
    };
    let result: SetSessionOptionsResult = act(&mut client, action("SetSessionOptions", request)).await.unwrap();
    let errors: Vec<_> = result.errors.iter().map(|(name, error)| (name.as_str(), error.value())).collect();
    let invalid_name = OptionErrorValue::InvalidName;
    let invalid_value = OptionErrorValue::InvalidValue;
    assert_eq!(errors, [("catalog", invalid_value), ("color", invalid_name), ("list", invalid_value)]);
    let request = action("GetSessionOptions", GetSessionOptionsRequest {});
    let result: GetSessionOptionsResult = act(&mut client, request).await.unwrap();
    assert_eq!(result.session_options["schema"], text("s"));
    assert_eq!(result.session_options["tereza.mode"], text("true"));
    assert_eq!(result.session_options["catalog"], text("tereza"));
}

#[tokio::test]
async fn closing_a_session_cancels_what_it_runs() {
    let server = Server::start(Settings::default()).await;
    let mut client = server.flight().await;
    let info = client.get_flight_info(query("forever")).await.unwrap().into_inner();
    let mut rows = client.do_get(ticket_of(&info)).await.unwrap().into_inner();
    client.get_flight_info(query("forever")).await.unwrap();
    let result: CloseSessionResult = act(&mut client, action("CloseSession", CloseSessionRequest {})).await.unwrap();
    assert_eq!(result.status(), CloseSessionStatus::Closed);
    assert!(server.fake.sessions.lock().is_empty());
    while let Ok(message) = rows.message().await {
        assert!(message.is_some(), "the stream ended as if it were whole");
    }
    server.idle().await;
    let mut client = FlightSqlServiceClient::new_from_inner(client);
    assert_eq!(text(&mut client, "catalog").await, "tereza");
}

#[tokio::test]
async fn closing_a_session_leaves_the_one_that_took_its_place() {
    let fake = Arc::new(Fake::default());
    let clock = tereza_runtime::clock::Clock::fixed(0);
    let sessions = crate::flight::session::Sessions::new(Arc::clone(&fake) as _, &Settings::default(), clock.clone());
    let mut metadata = tonic::metadata::MetadataMap::new();
    metadata.insert("authorization", "Bearer mine".parse().unwrap());
    let mut extensions = http::Extensions::new();
    extensions.insert(Arc::<crate::flight::connection::Peer>::default());

    let first = sessions.caller(&metadata, &extensions).await.unwrap().session;
    // The engine ended it by itself, so the next request opens another.
    fake.sessions.lock().clear();
    clock.advance_ms(3_600_000);
    let second = sessions.caller(&metadata, &extensions).await.unwrap().session;
    assert_ne!(second.id, first.id);
    sessions.close(&first).await.unwrap();
    assert_eq!(sessions.caller(&metadata, &extensions).await.unwrap().session.id, second.id);
}
