//! The log of changes, for systems that follow a metastore, and the events that clients send.

use tereza_thrift::hive::{
    self, CurrentNotificationEventId, FireEventResponse, NotificationEvent, NotificationEventResponse,
    NotificationEventsCountResponse,
};

use super::{Answer, Session, convert, names};
use crate::store::{Notification, NotificationFilter};

/// How many are answered at once to who does not say it.
const AT_ONCE: usize = 1_000;

impl Session {
    pub(super) async fn last_notification(&self) -> Answer<CurrentNotificationEventId> {
        Ok(CurrentNotificationEventId { event_id: self.store().last_notification().await? })
    }

    /// Those after an id. What Hive 4 asks for besides is looked at here, so fewer than there are may come back at once;
    /// none comes only when there is none left.
    pub(super) async fn next_notifications(
        &self,
        args: hive::GetNextNotificationArgs,
    ) -> Answer<NotificationEventResponse> {
        let request = args.rqst.unwrap_or_default();
        names::check_catalog(request.cat_name.as_deref())?;
        let limit = request.max_events.and_then(|max| usize::try_from(max).ok()).unwrap_or(AT_ONCE).min(AT_ONCE);
        let is_wanted = |event: &Notification| {
            let skipped = request.event_type_skip_list.iter().flatten().any(|kind| *kind == event.kind);
            let listed = request.event_type_list.as_ref();
            let is_same = |wanted: &str, known: &Option<String>| {
                known.as_ref().is_some_and(|known| known.eq_ignore_ascii_case(wanted))
            };
            let tables = request.table_names.as_ref().filter(|names| !names.is_empty());
            !skipped
                && listed.is_none_or(|kinds| kinds.is_empty() || kinds.contains(&event.kind))
                && request.db_name.as_ref().is_none_or(|wanted| is_same(wanted, &event.database))
                && tables.is_none_or(|names| names.iter().any(|wanted| is_same(wanted, &event.table)))
        };
        let mut growing = self.growing();
        let mut events = Vec::new();
        let mut last = request.last_event;
        while events.len() < limit {
            let found = self.store().notifications(last, limit).await?;
            let Some(newest) = found.last() else { break };
            last = newest.id;
            for event in found.into_iter().filter(is_wanted).take(limit - events.len()) {
                growing.grow((2 * event.message.len(), event.message.len())).await?;
                events.push(event_to(event));
            }
        }
        Ok(NotificationEventResponse { events })
    }

    pub(super) async fn count_notifications(
        &self,
        args: hive::GetNotificationEventsCountArgs,
    ) -> Answer<NotificationEventsCountResponse> {
        let request = args.rqst.unwrap_or_default();
        names::check_catalog(request.cat_name.as_deref())?;
        let filter = NotificationFilter {
            after: request.from_event_id,
            until: request.to_event_id,
            database: names::database(Some(request.db_name))?,
            tables: request.table_names.unwrap_or_default(),
        };
        let count = self.store().count_notifications(&filter).await?;
        Ok(NotificationEventsCountResponse { events_count: request.limit.map_or(count, |limit| count.min(limit)) })
    }

    /// Rows that a client wrote by itself: nobody listens, but the table has to be there.
    pub(super) async fn fire_event(&self, args: hive::FireListenerEventArgs) -> Answer<FireEventResponse> {
        let request = args.rqst.unwrap_or_default();
        names::check_catalog(request.cat_name.as_deref())?;
        if request.table_name.is_some() {
            let (database, table) = (names::database(request.db_name)?, names::object(request.table_name));
            self.table(&database, &table).await?;
        }
        Ok(FireEventResponse::default())
    }
}

fn event_to(event: Notification) -> NotificationEvent {
    NotificationEvent {
        event_id: event.id,
        event_time: convert::seconds(event.time_s),
        event_type: event.kind,
        db_name: event.database,
        table_name: event.table,
        message: event.message,
        message_format: event.format,
        cat_name: event.catalog,
    }
}
