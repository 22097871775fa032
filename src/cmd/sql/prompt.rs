//! The prompt: reads statements and backslash commands from a terminal until it is left.

use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nu_ansi_term::{Color, Style};
use reedline::{
    ColumnarMenu, DefaultHinter, Emacs, FileBackedHistory, KeyCode, KeyModifiers, MenuBuilder, Reedline, ReedlineEvent,
    ReedlineMenu, Signal, default_emacs_keybindings,
};
use tereza_runtime::{Error, Result};
use tokio::runtime::Handle;

use super::complete::{Names, SqlCompleter};
use super::edit::{self, Colors, PlacePrompt, StatementValidator};
use super::meta::Place;
use super::shell::{Outcome, Shell};
use crate::output;

/// Entries of the history that are kept.
const HISTORY_MAX: usize = 10_000;
const MENU: &str = "completion";

/// Reads and runs until the user leaves. A statement's error never ends the prompt.
pub(super) async fn run(mut shell: Shell) -> Result<Outcome> {
    let names = Names::new(Arc::clone(&shell.service), shell.session.clone(), Handle::current());
    let mut editor = editor(&mut shell, names.clone());
    shell.note(concat!("tereza ", env!("CARGO_PKG_VERSION"), r"; statements end with ; and \? lists the commands"));
    loop {
        let prompt = PlacePrompt { place: place(&shell).await };
        let read = tokio::task::spawn_blocking(move || {
            let signal = editor.read_line(&prompt);
            (editor, signal)
        });
        let signal;
        (editor, signal) = read.await.map_err(|error| Error::internal("the line editor died").with_source(error))?;
        let signal = signal
            .map_err(|error| Error::unavailable(format!("the terminal cannot be read: {error}")).with_source(error))?;
        let text = match signal {
            Signal::Success(text) => text,
            Signal::CtrlD => return Ok(Outcome::Done),
            _ => continue,
        };
        if edit::is_leaving(&text) {
            return Ok(Outcome::Done);
        }
        if let Err(error) = editor.sync_history() {
            shell.note(&format!("the history cannot be kept: {error}"));
        }
        shell.forget_interrupt();
        match shell.input(&text).await {
            Outcome::Quit | Outcome::Closed => return Ok(Outcome::Done),
            Outcome::Done | Outcome::Failed | Outcome::Unreachable | Outcome::Interrupted => {}
        }
        names.forget();
    }
}

/// `catalog.schema`, or the product's name while the service does not say.
async fn place(shell: &Shell) -> String {
    match Place::of(&*shell.service, &shell.session).await {
        Ok(Place { catalog, schema }) if !catalog.is_empty() => format!("{catalog}.{schema}"),
        _ => "tereza".to_string(),
    }
}

fn editor(shell: &mut Shell, names: Names) -> Reedline {
    let words = shell.service.words();
    let mut keys = default_emacs_keybindings();
    let complete = ReedlineEvent::UntilFound(vec![ReedlineEvent::Menu(MENU.to_string()), ReedlineEvent::MenuNext]);
    keys.add_binding(KeyModifiers::NONE, KeyCode::Tab, complete);
    keys.add_binding(KeyModifiers::SHIFT, KeyCode::BackTab, ReedlineEvent::MenuPrevious);
    let mut editor = Reedline::create()
        .with_validator(Box::new(StatementValidator))
        .with_completer(Box::new(SqlCompleter::new(&words, names)))
        .with_menu(ReedlineMenu::EngineCompleter(Box::new(ColumnarMenu::default().with_name(MENU))))
        .with_quick_completions(true)
        .with_partial_completions(true)
        .with_edit_mode(Box::new(Emacs::new(keys)))
        .with_ansi_colors(output::wants_color());
    if output::wants_color() {
        let hint = DefaultHinter::default().with_style(Style::new().fg(Color::DarkGray));
        editor = editor.with_highlighter(Box::new(Colors::new(&words))).with_hinter(Box::new(hint));
    }
    match history() {
        Ok(history) => editor.with_history(Box::new(history)),
        Err(error) => {
            shell.note(&format!("the history cannot be kept: {error}"));
            editor
        }
    }
}

/// The history, in a file that only its owner may read: statements may hold anything.
fn history() -> Result<FileBackedHistory> {
    let file = history_file(|name| std::env::var_os(name).map(PathBuf::from))?;
    let failed = |error: std::io::Error| Error::unavailable(format!("{}: {error}", file.display())).with_source(error);
    if let Some(folder) = file.parent() {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
    }
    std::fs::OpenOptions::new().create(true).append(true).mode(0o600).open(&file).map_err(failed)?;
    FileBackedHistory::with_file(HISTORY_MAX, file.clone())
        .map_err(|error| Error::unavailable(format!("{}: {error}", file.display())).with_source(error))
}

/// `tereza/history` in the user's state folder (XDG Base Directory Specification 0.8).
fn history_file(variable: impl Fn(&str) -> Option<PathBuf>) -> Result<PathBuf> {
    let absolute = |path: &PathBuf| path.is_absolute();
    let state = variable("XDG_STATE_HOME").filter(absolute);
    let state = state.or_else(|| variable("HOME").filter(absolute).map(|home| home.join(".local/state")));
    let state = state.ok_or_else(|| Error::not_found("neither XDG_STATE_HOME nor HOME names a folder"))?;
    Ok(state.join(Path::new("tereza/history")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_history_is_in_the_state_folder() {
        let of = |variables: &'static [(&str, &str)]| {
            history_file(move |name| {
                variables.iter().find(|(key, _)| *key == name).map(|(_, value)| PathBuf::from(value))
            })
        };
        assert_eq!(of(&[("XDG_STATE_HOME", "/s"), ("HOME", "/h")]).unwrap(), Path::new("/s/tereza/history"));
        assert_eq!(
            of(&[("XDG_STATE_HOME", "s"), ("HOME", "/h")]).unwrap(),
            Path::new("/h/.local/state/tereza/history")
        );
        assert!(of(&[]).is_err());
    }
}
