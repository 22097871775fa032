//! The commit, and doing at the metastore what is decided.

use tereza_runtime::clock::now;
use tereza_runtime::{Error, ErrorKind, Result};
use tokio::sync::{MutexGuard, RwLockWriteGuard};

use super::super::names;
use super::super::sqlite::beside::{Changed, Undone};
use super::Inner;
use super::effects::{check_partition, checked, mark_of};
use super::held::Held;
use super::look::Look;
use crate::hive::remote::Failed;
use crate::model::{LockMode, Partition, Table};
use crate::store::Commit;

/// The right to change tables: nobody else in this process, and nobody who asks the metastore for locks.
pub(super) struct Change<'a> {
    held: Held,
    /// Given up in this order, when the lock is given back.
    turn: Vec<RwLockWriteGuard<'a, ()>>,
    line: Vec<MutexGuard<'a, ()>>,
}

impl Change<'_> {
    pub(super) async fn end(self) {
        let Self { held, turn, line } = self;
        drop(turn);
        held.give_back().await;
        drop(line);
    }
}

/// Why what is decided is not done.
enum NotDone {
    /// Nothing of it is done, and nothing will be.
    Untouched(Error),
    /// The metastore says no to the next call.
    Refused(Error),
    /// No answer came: some of it may be done.
    Unknown(Error),
}

impl From<NotDone> for Error {
    fn from(not_done: NotDone) -> Self {
        match not_done {
            NotDone::Untouched(error) | NotDone::Refused(error) | NotDone::Unknown(error) => error,
        }
    }
}

/// A call that was made for a commit, with what it takes to undo it.
enum Step {
    MadeTable,
    ChangedTable,
    /// Names of the new ones.
    Added(Vec<String>),
    /// As they were.
    Changed(Vec<Partition>),
    /// As they were.
    Dropped(Vec<Partition>),
}

/// One go at a commit.
struct Progress {
    /// Tried before: some of it may be done that is not among the steps.
    is_late: bool,
    /// What was done in this go, in order.
    steps: Vec<Step>,
}

impl Progress {
    fn is_touched(&self) -> bool {
        self.is_late || !self.steps.is_empty()
    }

    fn of(&mut self, outcome: Result<(), Failed>, step: Step) -> Result<(), NotDone> {
        match outcome {
            Ok(()) => {
                self.steps.push(step);
                Ok(())
            }
            Err(Failed::Refused(error) | Failed::Unsent(error)) if !self.is_touched() => Err(NotDone::Untouched(error)),
            Err(Failed::Refused(error)) => Err(NotDone::Refused(error)),
            Err(Failed::Unsent(error) | Failed::Lost(error)) => Err(NotDone::Unknown(error)),
        }
    }

    /// What was asked of the metastore, or found out from its answers.
    fn read<T>(&self, outcome: Result<T>) -> Result<T, NotDone> {
        outcome.map_err(|error| match self.is_touched() {
            true if error.kind() == ErrorKind::Unavailable => NotDone::Unknown(error),
            true => NotDone::Refused(error),
            false => NotDone::Untouched(error),
        })
    }

    /// What was asked of the file.
    fn local<T>(&self, outcome: Result<T>) -> Result<T, NotDone> {
        outcome.map_err(|error| if self.is_touched() { NotDone::Unknown(error) } else { NotDone::Untouched(error) })
    }
}

impl Inner {
    /// Waits for the right to change tables, and does what is decided of them and not done.
    pub(super) async fn change(&self, mode: LockMode, tables: &[(&str, &str)]) -> Result<Change<'_>> {
        let line = self.turns.line(tables).await;
        let patience = self.settings.lock_patience;
        let held = Held::take(&self.remote, &self.instance, mode, tables, patience).await?;
        let turn = self.turns.write(tables).await;
        let change = Change { held, turn, line };
        for (database, table) in tables {
            if let Err(error) = self.settle(database, table).await {
                change.end().await;
                return Err(error.context(format!("a former commit to table '{database}.{table}'")));
            }
        }
        Ok(change)
    }

    /// [`Store::commit`](crate::Store::commit).
    pub(super) async fn commit(&self, commit: &Commit) -> Result<i64> {
        if let Some(version) = self.journaled(commit).await? {
            return Ok(version);
        }
        let (database, table) = (names::fold(&commit.database), names::fold(&commit.table));
        let mut commit = Commit { database: database.clone(), table: table.clone(), ..commit.clone() };
        if let Some(new) = commit.create_table.as_mut() {
            if names::fold(&new.name) != table || names::fold(&new.database) != database {
                return Err(Error::invalid_input(format!(
                    "the commit to table '{database}.{table}' would make table '{}.{}'",
                    new.database, new.name
                )));
            }
            *new = checked(new)?;
        }
        let is_alone =
            commit.create_table.is_some() || commit.expected_version.is_some() || !commit.drop_partitions.is_empty();
        let mode = if is_alone { LockMode::Exclusive } else { LockMode::SharedWrite };
        let change = self.change(mode, &[(&database, &table)]).await?;
        let outcome = self.commit_in_turn(&change.held, &commit).await;
        change.end().await;
        outcome
    }

    /// The version of a commit that was made before; `NotFound` if its write has not begun or was ended.
    async fn journaled(&self, commit: &Commit) -> Result<Option<i64>> {
        match self.local.journaled(&commit.id).await? {
            (None, false) => Err(Error::not_found(format!("write '{}' has not begun or has ended", commit.id))),
            (version, _) => Ok(version),
        }
    }

    async fn commit_in_turn(&self, held: &Held, commit: &Commit) -> Result<i64> {
        // It may have been asked for twice at once.
        if let Some(version) = self.journaled(commit).await? {
            return Ok(version);
        }
        let id = self.check_commit(commit).await?;
        held.check()?;
        let (undone, write) = self.local.decide(commit, id, self.clock.unix_ms()).await?;
        let version = undone.commit.version;
        let mut progress = Progress { is_late: false, steps: Vec::new() };
        let refused = match self.carry_out(&undone, &mut progress).await {
            Ok(()) => return Ok(version),
            Err(NotDone::Untouched(error)) => error,
            Err(NotDone::Refused(error)) => match self.take_back(&undone.commit, progress.steps).await {
                Ok(()) => error,
                Err(other) => {
                    tracing::warn!(
                        commit = commit.id,
                        %error,
                        %other,
                        "a commit that the metastore refused half-way cannot be taken back and stays decided"
                    );
                    return Ok(version);
                }
            },
            Err(NotDone::Unknown(error)) => {
                tracing::warn!(commit = commit.id, %error, "a commit is decided and not done at the metastore yet");
                return Ok(version);
            }
        };
        match self.local.withdraw(&undone.commit, write.as_ref()).await {
            Ok(()) => Err(refused),
            Err(other) => {
                tracing::warn!(commit = commit.id, error = %refused, %other, "a commit that the metastore refused stays decided");
                Ok(version)
            }
        }
    }

    /// Undoes at the metastore what was done of a commit, the last first. What the metastore refuses for good to take back stays:
    /// partitions without files, where they were added, or without a record of files that are there, where they were dropped.
    async fn take_back(&self, commit: &Commit, steps: Vec<Step>) -> Result<()> {
        let (database, name) = (commit.database.as_str(), commit.table.as_str());
        for step in steps.into_iter().rev() {
            let (what, outcome) = match step {
                Step::MadeTable => ("made it", self.remote.drop_table(database, name, false).await),
                // The last call of all: nothing after it is refused.
                Step::ChangedTable => continue,
                Step::Added(names) => {
                    ("added partitions", self.remote.drop_partitions(database, name, &names, false).await)
                }
                Step::Changed(before) => {
                    ("changed partitions", self.remote.alter_partitions(database, name, &before).await)
                }
                Step::Dropped(before) => {
                    ("dropped partitions", self.remote.add_partitions(database, name, &before, true).await)
                }
            };
            match outcome {
                Ok(()) => {}
                Err(Failed::Refused(error)) if error.kind() != ErrorKind::Unavailable => {
                    tracing::error!(commit = commit.id, database, name, %error, "a commit that was refused has {what}, which the metastore does not take back");
                }
                Err(failed) => return Err(failed.into()),
            }
        }
        Ok(())
    }

    /// Whether all is as a commit demands; returns the id of its table, if that is there.
    async fn check_commit(&self, commit: &Commit) -> Result<Option<i64>> {
        let (database, name) = (commit.database.as_str(), commit.table.as_str());
        let look = self.look(database, name).await?;
        let keys = match (&commit.create_table, &look) {
            (Some(_), Some(_)) => {
                return Err(Error::already_exists(format!("table '{database}.{name}' already exists")));
            }
            (Some(new), None) => {
                self.require_database(database).await?;
                new.partition_keys.clone()
            }
            (None, None) => {
                self.require_database(database).await?;
                return Err(Error::not_found(format!("table '{database}.{name}' does not exist")));
            }
            (None, Some(look)) => {
                expect_table(look, commit)?;
                expect_version(look, commit.expected_version, database, name)?;
                look.keys().to_vec()
            }
        };
        let plan = self.marks.plan(&keys, commit)?;
        for (name, partition) in &plan.add {
            check_partition(name, partition)?;
        }
        let mut changed: Vec<String> =
            plan.change.keys().filter(|name| !plan.add.contains_key(*name)).cloned().collect();
        if !changed.is_empty() {
            if let Some(look) = &look {
                let there = self.named(look, (database, name), &changed).await?;
                changed.retain(|name| !there.contains_key(name) || plan.drop.contains(name));
            }
            if let Some(missing) = changed.first() {
                let message = format!("partition '{missing}' of table '{database}.{name}' was dropped meanwhile");
                return Err(Error::conflict(message).with_hint("run the statement again"));
            }
        }
        Ok(look.map(|look| look.seen.id))
    }

    /// Does what is decided of a table and not done, or gives it up. To be called with the right to change it.
    async fn settle(&self, database: &str, table: &str) -> Result<()> {
        let undone = self.local.seen(database, table).await?.map(|seen| seen.undone).unwrap_or_default();
        for undone in undone {
            let mut progress = Progress { is_late: true, steps: Vec::new() };
            match self.carry_out(&undone, &mut progress).await {
                Ok(()) => {}
                Err(NotDone::Refused(error)) if self.is_for_good(&undone.commit.id, &error) => {
                    self.give_up(&undone.commit, &error).await?;
                }
                Err(not_done) => return Err(not_done.into()),
            }
            self.refusals.lock().remove(&undone.commit.id);
        }
        Ok(())
    }

    /// Whether a metastore that says this will never say anything else. What may be trouble of its own, and pass, is for good
    /// when it was said of the commit for long enough.
    fn is_for_good(&self, commit_id: &str, error: &Error) -> bool {
        if error.kind() != ErrorKind::Unavailable {
            return true;
        }
        let mut refusals = self.refusals.lock();
        let since = refusals.entry(commit_id.to_owned()).or_insert_with(now);
        since.elapsed() >= self.settings.refusal_patience
    }

    /// Leaves undone at the metastore what it refuses for good. Whoever committed was told that the rows are there: those that
    /// the metastore has a place for stay so. A table that was not made is none, and its files are left to the cleaner.
    async fn give_up(&self, commit: &Commit, reason: &Error) -> Result<()> {
        let (database, name) = (commit.database.as_str(), commit.table.as_str());
        tracing::error!(
            commit = commit.id,
            database,
            name,
            %reason,
            "a commit is given up: the metastore refuses for good what is not done of it"
        );
        match self.remote.table(database, name).await? {
            Some(table) if commit.create_table.is_none() || self.marks.has(&table.parameters, commit.version) => {
                self.local.done(commit, &mark_of(&table)?, true).await
            }
            _ => self.local.gone(database, name).await,
        }
    }

    /// Does all that is decided and not done.
    pub(super) async fn settle_all(&self) -> Result<()> {
        let mut failed = None;
        let tables = self.local.tables_with_undone().await?;
        if tables.is_empty() {
            self.refusals.lock().clear();
        }
        for (database, table) in tables {
            match self.change(LockMode::Exclusive, &[(&database, &table)]).await {
                Ok(change) => change.end().await,
                Err(error) => failed = Some(error),
            }
        }
        failed.map_or(Ok(()), Err)
    }

    /// Does at the metastore what a commit says, as far as it is not done, and notes that it is.
    async fn carry_out(&self, undone: &Undone, progress: &mut Progress) -> Result<(), NotDone> {
        let is_late = progress.is_late;
        let commit = &undone.commit;
        let (database, name) = (commit.database.as_str(), commit.table.as_str());
        let found = progress.read(self.remote.table(database, name).await)?;
        let seen = progress.local(self.local.seen(database, name).await)?;
        let created_s = seen.and_then(|seen| seen.created_s);
        let is_marked = found.as_ref().is_some_and(|table| self.marks.has(&table.parameters, commit.version));
        match (&commit.create_table, &found) {
            (Some(new), None) if created_s.is_none() => {
                let made = self.remote.create_table(&self.marks.new_table(new, undone)).await;
                progress.of(made, Step::MadeTable)?;
                self.change_partitions(progress, undone, new).await?;
            }
            // Nothing is done yet: whoever asks hears of it.
            (Some(_), Some(_)) if !is_marked && !is_late => {
                let message = format!("table '{database}.{name}' already exists");
                return Err(NotDone::Untouched(Error::already_exists(message)));
            }
            (Some(_), Some(table)) if is_marked => self.change_partitions(progress, undone, table).await?,
            (None, Some(table)) if created_s == Some(table.create_time_s) => {
                if !is_marked {
                    self.change_partitions(progress, undone, table).await?;
                    let changed = self.marks.table_after(table, commit);
                    let altered = self.remote.alter_table(database, name, &changed, false).await;
                    progress.of(altered, Step::ChangedTable)?;
                }
            }
            // It was dropped, or others have the name: as with every table that is dropped, files that are staged for it are
            // left to the cleaner.
            (new, _) => {
                if new.is_some() {
                    tracing::error!(
                        commit = commit.id,
                        database,
                        name,
                        "a table was not made: others took its name meanwhile"
                    );
                }
                return progress.local(self.local.gone(database, name).await);
            }
        }
        // It is done: what fails from here on is only not noted.
        let table = progress.local(self.remote.table(database, name).await)?;
        let Some(table) = table else { return progress.local(self.local.gone(database, name).await) };
        let mark = progress.local(mark_of(&table))?;
        progress.local(self.local.done(commit, &mark, is_late).await)
    }

    async fn change_partitions(&self, progress: &mut Progress, undone: &Undone, table: &Table) -> Result<(), NotDone> {
        let commit = &undone.commit;
        let (database, name, version) = (commit.database.as_str(), commit.table.as_str(), commit.version);
        let keys = &table.partition_keys;
        let plan = progress.read(self.marks.plan(keys, commit))?;
        if plan.is_empty() {
            return Ok(());
        }
        let mut asked: Vec<String> =
            plan.drop.iter().chain(plan.add.keys()).chain(plan.change.keys()).cloned().collect();
        asked.sort_unstable();
        asked.dedup();
        let there = progress.read(self.named_at_remote(keys, (database, name), &asked).await)?;
        let is_mine = |partition: &Partition| self.marks.has(&partition.parameters, version);
        let is_dropped = |name: &str, old: &Partition| plan.drop.contains(name) && !is_mine(old);
        let new = |is_in_place: bool| -> (Vec<String>, Vec<Partition>) {
            let new = plan.add.iter().filter(|(name, _)| match there.get(*name) {
                Some(old) => is_in_place && is_dropped(name, old),
                None => !is_in_place,
            });
            new.map(|(name, new)| (name.clone(), self.marks.new_partition(name, new, &plan, undone))).unzip()
        };
        // What takes nothing away comes first: it is undone without a loss where the metastore refuses what follows.
        let (added, partitions) = new(false);
        if !partitions.is_empty() {
            let outcome = self.remote.add_partitions(database, name, &partitions, true).await;
            progress.of(outcome, Step::Added(added))?;
        }
        let changed = plan.change.iter().filter_map(|(name, change)| {
            let old = there.get(name).filter(|old| !is_dropped(name, old))?;
            Some((old.clone(), self.marks.partition_after(old, change, version)?))
        });
        let (before, changed): (Vec<Partition>, Vec<Partition>) = changed.unzip();
        if !changed.is_empty() {
            let outcome = self.remote.alter_partitions(database, name, &changed).await;
            progress.of(outcome, Step::Changed(before))?;
        }
        let dropped = there.iter().filter(|(name, old)| is_dropped(name, old));
        let (dropped, before): (Vec<String>, Vec<Partition>) =
            dropped.map(|(name, old)| (name.clone(), old.clone())).unzip();
        if !dropped.is_empty() {
            let outcome = self.remote.drop_partitions(database, name, &dropped, false).await;
            progress.of(outcome, Step::Dropped(before))?;
        }
        let (replaced, partitions) = new(true);
        if !partitions.is_empty() {
            let outcome = self.remote.add_partitions(database, name, &partitions, true).await;
            progress.of(outcome, Step::Added(replaced))?;
        }
        Ok(())
    }

    /// Notes how a table is after a change that was made here.
    pub(super) async fn note_change(&self, database: &str, name: &str) -> Result<()> {
        let Some(table) = self.remote.table(database, name).await? else {
            return self.local.gone(database, name).await;
        };
        self.local.note(database, name, &mark_of(&table)?, Changed::Here).await.map(|_| ())
    }
}

/// `Conflict` unless it is the table that the caller saw.
fn expect_table(look: &Look, commit: &Commit) -> Result<()> {
    match commit.expected_table {
        Some(expected) if expected != look.seen.id => {
            let (database, name) = (&commit.database, &commit.table);
            Err(Error::conflict(format!("table '{database}.{name}' was dropped and made again meanwhile"))
                .with_hint("read it again and retry"))
        }
        _ => Ok(()),
    }
}

/// `Conflict` unless the table still has the version that the caller saw.
pub(super) fn expect_version(look: &Look, expected: Option<i64>, database: &str, name: &str) -> Result<()> {
    match expected {
        Some(expected) if expected != look.seen.version => Err(Error::conflict(format!(
            "table '{database}.{name}' was changed meanwhile: expected version {expected}, found {}",
            look.seen.version
        ))
        .with_hint("read it again and retry")),
        _ => Ok(()),
    }
}
