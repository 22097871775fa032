//! Who may go on with a table in this process: its changes wait for each other before they ask the metastore for a lock, and
//! readers see none of them by half.

use std::hash::{DefaultHasher, Hash, Hasher};

use tokio::sync::{Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// Tables are told apart by a number below this; two with one number wait for each other.
const COUNT: usize = 256;

/// The turns.
#[derive(Debug)]
pub(super) struct Turns {
    lines: Vec<Mutex<()>>,
    turns: Vec<RwLock<()>>,
}

impl Turns {
    pub(super) fn new() -> Self {
        let count = || 0..COUNT;
        Self { lines: count().map(|_| Mutex::default()).collect(), turns: count().map(|_| RwLock::default()).collect() }
    }

    /// Waits until no other change of these tables is under way or waits for a lock.
    pub(super) async fn line(&self, tables: &[(&str, &str)]) -> Vec<MutexGuard<'_, ()>> {
        let mut guards = Vec::with_capacity(tables.len());
        for at in places(tables) {
            guards.push(self.lines[at].lock().await);
        }
        guards
    }

    /// Keeps readers of these tables out.
    pub(super) async fn write(&self, tables: &[(&str, &str)]) -> Vec<RwLockWriteGuard<'_, ()>> {
        let mut guards = Vec::with_capacity(tables.len());
        for at in places(tables) {
            guards.push(self.turns[at].write().await);
        }
        guards
    }

    /// Keeps changes of this table out.
    pub(super) async fn read(&self, database: &str, table: &str) -> RwLockReadGuard<'_, ()> {
        self.turns[place(database, table)].read().await
    }
}

/// In one order for all, so that nobody waits for somebody who waits for them.
fn places(tables: &[(&str, &str)]) -> Vec<usize> {
    let mut places: Vec<usize> = tables.iter().map(|(database, table)| place(database, table)).collect();
    places.sort_unstable();
    places.dedup();
    places
}

fn place(database: &str, table: &str) -> usize {
    let mut hasher = DefaultHasher::new();
    (database, table).hash(&mut hasher);
    usize::try_from(hasher.finish() % (COUNT as u64)).unwrap_or_default()
}
