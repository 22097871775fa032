//! Names of subjects with their contexts, as clients write them: `subject`, `:.context:subject`, `:*:prefix`.

use tereza_catalog::store::schemas::{DEFAULT_CONTEXT, SubjectFilter, SubjectName};

/// What stands for all contexts.
const WILDCARD: &str = ":*:";
/// A subject that clients may not name, as other registries keep their global settings under it.
const RESERVED: [&str; 2] = ["__GLOBAL", "__EMPTY"];
/// Bytes that a name has at most.
const NAME_BYTES: usize = 512;

/// The context and subject of a name; `context` is that of names without one.
pub(crate) fn parse(text: &str, context: &str) -> SubjectName {
    let (context, subject) = split(text).unwrap_or((context, text));
    SubjectName { context: context.to_owned(), subject: subject.to_owned() }
}

/// The context of a name and what follows it, if it has one.
fn split(text: &str) -> Option<(&str, &str)> {
    let (context, subject) = text.strip_prefix(':')?.split_once(':')?;
    context.starts_with('.').then_some((context, subject))
}

/// The name as clients read it.
pub(crate) fn render(name: &SubjectName) -> String {
    match name.context.as_str() {
        DEFAULT_CONTEXT => name.subject.clone(),
        context => format!(":{context}:{}", name.subject),
    }
}

/// A context as it stands in a path, with or without colons; none if it is no context.
pub(crate) fn context(text: &str) -> Option<String> {
    let text = text.strip_prefix(':').unwrap_or(text);
    let text = text.strip_suffix(':').unwrap_or(text);
    (text.starts_with('.') && !text.contains(':')).then(|| text.to_owned())
}

/// Whether something can be registered under a name.
pub(crate) fn is_valid(name: &SubjectName) -> bool {
    let is_good = |text: &str| !text.is_empty() && text.len() <= NAME_BYTES && !text.chars().any(char::is_control);
    is_good(&name.subject) && is_good(&name.context) && !RESERVED.contains(&name.subject.as_str())
}

/// The subjects that a prefix means: `:*:` is of all contexts, one without a context of that around.
pub(crate) fn prefix(text: &str, context: &str) -> SubjectFilter {
    if let Some(prefix) = text.strip_prefix(WILDCARD) {
        return SubjectFilter { context: None, prefix: prefix.to_owned(), ..SubjectFilter::default() };
    }
    let SubjectName { context, subject } = parse(text, context);
    SubjectFilter { context: Some(context), prefix: subject, ..SubjectFilter::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_contexts() {
        let name = |context: &str, subject: &str| SubjectName { context: context.into(), subject: subject.into() };
        assert_eq!(parse("a:b", "."), name(".", "a:b"));
        assert_eq!(parse(":.c:a:b", "."), name(".c", "a:b"));
        assert_eq!(parse(":.:a", ".c"), name(".", "a"));
        assert_eq!(parse("a", ".c"), name(".c", "a"));
        assert_eq!(parse(":c:a", "."), name(".", ":c:a"));
        assert_eq!(render(&name(".", "a")), "a");
        assert_eq!(render(&name(".c", "a")), ":.c:a");
        assert_eq!(context(":.c:").as_deref(), Some(".c"));
        assert_eq!(context(".c").as_deref(), Some(".c"));
        assert_eq!(context("c"), None);
    }

    #[test]
    fn prefixes_have_contexts() {
        let of = |text: &str| {
            let SubjectFilter { context, prefix, .. } = prefix(text, ".c");
            (context, prefix)
        };
        assert_eq!(of(":*:"), (None, String::new()));
        assert_eq!(of(":*:a"), (None, "a".into()));
        assert_eq!(of(":.d:a"), (Some(".d".into()), "a".into()));
        assert_eq!(of("a"), (Some(".c".into()), "a".into()));
    }
}
