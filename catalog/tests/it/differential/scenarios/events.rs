//! Events, and who is told of them. The one that was recorded notes none: nothing that does is in its distribution.

use tereza_thrift::hive::*;

use super::{Asking, drop_web, make_table, make_web};
use crate::support::{table, text};

pub(super) async fn play(to: &mut Asking) {
    to.ask(GetCurrentNotificationEventIdArgs {}).await;
    make_web(to).await;
    make_table(to, table("t")).await;
    let next = NotificationEventRequest { last_event: 0, max_events: Some(10), ..NotificationEventRequest::default() };
    to.ask(GetNextNotificationArgs { rqst: Some(next) }).await;
    for name in ["web", "nope"] {
        let count = NotificationEventsCountRequest { from_event_id: 0, db_name: name.into(), ..Default::default() };
        to.ask(GetNotificationEventsCountArgs { rqst: Some(count) }).await;
    }
    let insert = InsertEventRequestData { files_added: Some(Vec::new()), ..InsertEventRequestData::default() };
    let event = |table: &str| FireEventRequest {
        successful: true,
        data: FireEventRequestData::InsertData(insert.clone()),
        db_name: text("web"),
        table_name: text(table),
        ..FireEventRequest::default()
    };
    to.ask(FireListenerEventArgs { rqst: Some(event("t")) }).await;
    to.ask(FireListenerEventArgs { rqst: Some(event("nope")) }).await;
    drop_web(to).await;
}
