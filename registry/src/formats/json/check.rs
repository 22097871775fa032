//! What an old schema lets through and a new one does not. Only differences that are incompatible are noted; the others
//! decide nothing.
//!
//! Here a reader's schema is the new one and a writer's the old one. Pairs are compared once; one that is met again while it
//! is being compared is a recursion, and taken for compatible.

use std::collections::{HashMap, VecDeque};
use std::rc::Rc;

use super::{How, NodeId, Number, Schema, Shape, arrays, objects};
use crate::formats::{Effort, PROBLEMS_MAX, Policy, Problem, TooComplex, clipped};
use crate::json::Json;

/// What keeps `reader` from reading what `writer` wrote.
pub(crate) fn problems(reader: &Schema, writer: &Schema, policy: Policy) -> Result<Vec<Problem>, TooComplex> {
    let mut check = Check { new: reader, old: writer, policy, known: HashMap::new(), effort: Effort::default() };
    let found = check.pair(Side::Normal, writer.root, reader.root)?;
    let problem =
        |(kind, path): &(&'static str, String)| Problem { kind, path: format!("#/{path}"), info: None, describe };
    Ok(found.iter().map(problem).collect())
}

/// Differences with their paths below the pair that they are of.
pub(super) type Found = Vec<(&'static str, String)>;

/// Which of the schemas is the old one: within `not` it is the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Side {
    Normal,
    Reversed,
}

pub(super) struct Check<'a> {
    new: &'a Schema,
    old: &'a Schema,
    policy: Policy,
    /// None while a pair is being compared.
    known: HashMap<(Side, NodeId, NodeId), Option<Rc<Found>>>,
    pub(super) effort: Effort,
}

impl<'a> Check<'a> {
    pub(super) fn writer(&self, side: Side) -> &'a Schema {
        if side == Side::Normal { self.old } else { self.new }
    }

    pub(super) fn reader(&self, side: Side) -> &'a Schema {
        if side == Side::Normal { self.new } else { self.old }
    }

    pub(super) fn is_lenient(&self) -> bool {
        self.policy == Policy::Lenient
    }

    pub(super) fn pair(&mut self, side: Side, old: NodeId, new: NodeId) -> Result<Rc<Found>, TooComplex> {
        let (old, new) = (self.writer(side).target(old), self.reader(side).target(new));
        self.effort.spend(1)?;
        if let Some(known) = self.known.get(&(side, old, new)) {
            return Ok(known.clone().unwrap_or_default());
        }
        self.known.insert((side, old, new), None);
        self.effort.enter()?;
        let mut found = Found::new();
        self.compare(side, old, new, &mut found)?;
        self.effort.leave();
        let found = Rc::new(found);
        self.known.insert((side, old, new), Some(Rc::clone(&found)));
        Ok(found)
    }

    pub(super) fn is_compatible(&mut self, side: Side, old: NodeId, new: NodeId) -> Result<bool, TooComplex> {
        Ok(self.pair(side, old, new)?.is_empty())
    }

    /// Compares a pair that is at `path`, and adds what is found.
    pub(super) fn below(
        &mut self,
        side: Side,
        path: &str,
        old: NodeId,
        new: NodeId,
        found: &mut Found,
    ) -> Result<(), TooComplex> {
        let more = self.pair(side, old, new)?;
        for (kind, below) in more.iter() {
            self.effort.copy(path.len() + below.len())?;
            let separator = if below.is_empty() { "" } else { "/" };
            note(found, kind, || format!("{path}{separator}{below}"));
        }
        Ok(())
    }

    fn compare(&mut self, side: Side, old_id: NodeId, new_id: NodeId, found: &mut Found) -> Result<(), TooComplex> {
        let (old, new) = (self.writer(side).shape(old_id), self.reader(side).shape(new_id));
        if self.is_covered_by_a_part(side, (old_id, old), (new_id, new))? {
            return Ok(());
        }
        match (old, new) {
            (Shape::Nothing, _) | (_, Shape::Anything) | (Shape::Boolean, Shape::Boolean) => {}
            (Shape::Null, Shape::Null) | (Shape::Conditional, Shape::Conditional) => {}
            (Shape::Text { min: old_min, max: old_max, pattern: old_pattern }, Shape::Text { min, max, pattern }) => {
                at_most(found, "maxLength", &MAX_LENGTH, *old_max, *max);
                at_least(found, "minLength", &MIN_LENGTH, *old_min, *min);
                match (old_pattern, pattern) {
                    (None, Some(_)) => note(found, "PATTERN_ADDED", || "pattern".into()),
                    (Some(old), Some(new)) if old != new => note(found, "PATTERN_CHANGED", || "pattern".into()),
                    _ => {}
                }
            }
            (Shape::Number(old), Shape::Number(new)) => compare_numbers(old, new, found),
            (Shape::Enum(old), Shape::Enum(new)) => self.compare_enums(old, new, found)?,
            (Shape::Const(old), Shape::Const(new)) => {
                if !old.is_same(new) {
                    note(found, "ENUM_ARRAY_CHANGED", || "const".into());
                }
            }
            (Shape::Not(old), Shape::Not(new)) => {
                let reversed = if side == Side::Normal { Side::Reversed } else { Side::Normal };
                if !self.is_compatible(reversed, *new, *old)? {
                    note(found, "NOT_TYPE_EXTENDED", || "not".into());
                }
            }
            (Shape::Combined { how: old_how, parts: old }, Shape::Combined { how, parts: new }) => {
                self.compare_combined(side, (*old_how, old), (*how, new), found)?;
            }
            (Shape::Object(old), Shape::Object(new)) => objects::compare(self, side, old, new, found)?,
            (Shape::Array(old), Shape::Array(new)) => arrays::compare(self, side, old, new, found)?,
            _ => note(found, "TYPE_CHANGED", String::new),
        }
        Ok(())
    }

    /// Whether one of the two is combined, and one of its parts says it all: a sum in which the old schema is a part, a
    /// product of which the new one is a part. Of two that are combined only one of a single part says it all.
    fn is_covered_by_a_part(
        &mut self,
        side: Side,
        (old_id, old): (NodeId, &Shape),
        (new_id, new): (NodeId, &Shape),
    ) -> Result<bool, TooComplex> {
        let is_combined = |shape: &Shape| matches!(shape, Shape::Combined { .. });
        if let Shape::Combined { how, parts } = new
            && (parts.len() == 1 || *how != How::All && !is_combined(old))
        {
            for part in parts {
                if self.is_compatible(side, old_id, *part)? {
                    return Ok(true);
                }
            }
        }
        if let Shape::Combined { how, parts } = old
            && (parts.len() == 1 || *how == How::All && !is_combined(new))
        {
            for part in parts {
                if self.is_compatible(side, *part, new_id)? {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    fn compare_enums(&mut self, old: &[Json], new: &[Json], found: &mut Found) -> Result<(), TooComplex> {
        // Sets of texts, so that long lists are compared quickly; numbers are written in one way first.
        let key = |json: &Json| match json.as_f64() {
            Some(number) => format!("{number}"),
            None => json.sorted().to_string(),
        };
        self.effort.spend(old.len() + new.len())?;
        let old: std::collections::HashSet<String> = old.iter().map(key).collect();
        let new: std::collections::HashSet<String> = new.iter().map(key).collect();
        if !old.is_subset(&new) {
            let kind = if new.is_subset(&old) { "ENUM_ARRAY_NARROWED" } else { "ENUM_ARRAY_CHANGED" };
            note(found, kind, || "enum".into());
        }
        Ok(())
    }

    fn compare_combined(
        &mut self,
        side: Side,
        (old_how, old): (How, &[NodeId]),
        (new_how, new): (How, &[NodeId]),
        found: &mut Found,
    ) -> Result<(), TooComplex> {
        let is_extended = match new_how {
            _ if old_how == new_how => true,
            How::Any => true,
            How::One => old.len() == 1,
            How::All => old.len() == 1 && new.len() == 1,
        };
        if !is_extended {
            note(found, "COMBINED_TYPE_CHANGED", String::new);
            return Ok(());
        }
        if old.len() < new.len() && new_how == How::All {
            note(found, "PRODUCT_TYPE_EXTENDED", String::new);
        } else if old.len() > new.len() && new_how != How::All {
            note(found, "SUM_TYPE_NARROWED", String::new);
        }
        let mut edges = Vec::with_capacity(old.len());
        for part in old {
            let mut fitting = Vec::new();
            for (index, other) in new.iter().enumerate() {
                if self.is_compatible(side, *part, *other)? {
                    fitting.push(index);
                }
            }
            edges.push(fitting);
        }
        if self.matching(&edges, new.len())? < old.len().min(new.len()) {
            note(found, "COMBINED_TYPE_SUBSCHEMAS_CHANGED", String::new);
        }
        Ok(())
    }

    /// How many parts can be given one of their own: the size of a maximum matching, by augmenting paths that are looked for
    /// breadth first.
    fn matching(&mut self, edges: &[Vec<usize>], rights: usize) -> Result<usize, TooComplex> {
        let mut left_of: Vec<Option<usize>> = vec![None; rights];
        let mut size = 0;
        for start in 0..edges.len() {
            let mut came_from: Vec<Option<usize>> = vec![None; rights];
            let mut queue = VecDeque::from([start]);
            let mut free = None;
            'search: while let Some(left) = queue.pop_front() {
                self.effort.spend(edges[left].len())?;
                for &right in &edges[left] {
                    if came_from[right].is_some() {
                        continue;
                    }
                    came_from[right] = Some(left);
                    match left_of[right] {
                        None => {
                            free = Some(right);
                            break 'search;
                        }
                        Some(next) => queue.push_back(next),
                    }
                }
            }
            let mut right = free;
            size += usize::from(free.is_some());
            while let Some(here) = right {
                let Some(left) = came_from[here] else { break };
                right = if left == start { None } else { left_of.iter().position(|other| *other == Some(left)) };
                left_of[here] = Some(left);
            }
        }
        Ok(size)
    }
}

/// Adds a difference if there are not too many yet.
pub(super) fn note(found: &mut Found, kind: &'static str, path: impl FnOnce() -> String) {
    if found.len() < PROBLEMS_MAX {
        found.push((kind, clipped(path())));
    }
}

/// The names of what may be wrong with a bound: that there is one, and that it is narrower.
pub(super) type Bound = (&'static str, &'static str);

const MAX_LENGTH: Bound = ("MAX_LENGTH_ADDED", "MAX_LENGTH_DECREASED");
const MIN_LENGTH: Bound = ("MIN_LENGTH_ADDED", "MIN_LENGTH_INCREASED");
const MAXIMUM: Bound = ("MAXIMUM_ADDED", "MAXIMUM_DECREASED");
const MINIMUM: Bound = ("MINIMUM_ADDED", "MINIMUM_INCREASED");
const BELOW: Bound = ("EXCLUSIVE_MAXIMUM_ADDED", "EXCLUSIVE_MAXIMUM_DECREASED");
const ABOVE: Bound = ("EXCLUSIVE_MINIMUM_ADDED", "EXCLUSIVE_MINIMUM_INCREASED");

/// Compares upper bounds.
pub(super) fn at_most(found: &mut Found, word: &str, kinds: &Bound, old: Option<f64>, new: Option<f64>) {
    match (old, new) {
        (None, Some(_)) => note(found, kinds.0, || word.into()),
        (Some(old), Some(new)) if new < old => note(found, kinds.1, || word.into()),
        _ => {}
    }
}

/// Compares lower bounds.
pub(super) fn at_least(found: &mut Found, word: &str, kinds: &Bound, old: Option<f64>, new: Option<f64>) {
    match (old, new) {
        (None, Some(_)) => note(found, kinds.0, || word.into()),
        (Some(old), Some(new)) if new > old => note(found, kinds.1, || word.into()),
        _ => {}
    }
}

fn compare_numbers(old: &Number, new: &Number, found: &mut Found) {
    at_most(found, "maximum", &MAXIMUM, old.max, new.max);
    at_least(found, "minimum", &MINIMUM, old.min, new.min);
    at_most(found, "exclusiveMaximum", &BELOW, old.below, new.below);
    at_least(found, "exclusiveMinimum", &ABOVE, old.above, new.above);
    match (old.multiple_of, new.multiple_of) {
        (None, Some(_)) => note(found, "MULTIPLE_OF_ADDED", || "multipleOf".into()),
        (Some(old), Some(new)) if old.total_cmp(&new).is_ne() => {
            if is_whole(new / old) {
                note(found, "MULTIPLE_OF_EXPANDED", || "multipleOf".into());
            } else if !is_whole(old / new) {
                note(found, "MULTIPLE_OF_CHANGED", || "multipleOf".into());
            }
        }
        _ => {}
    }
    if new.is_integer && !old.is_integer {
        note(found, "TYPE_NARROWED", String::new);
    }
}

/// Whether a quotient is a whole number, but for what binary fractions cannot say.
fn is_whole(quotient: f64) -> bool {
    const TOLERANCE: f64 = 1e-9;
    quotient.is_finite() && (quotient - quotient.round()).abs() <= TOLERANCE * quotient.abs().max(1.0)
}

fn describe(problem: &Problem, reader: &str, writer: &str) -> String {
    let Problem { kind, path, .. } = problem;
    let is_one_of = |kinds: &[&str]| kinds.contains(kind);
    let text = if is_one_of(&["ADDITIONAL_ITEMS_REMOVED", "ADDITIONAL_PROPERTIES_REMOVED"])
        || is_one_of(&["UNEVALUATED_PROPERTIES_REMOVED", "UNEVALUATED_ITEMS_REMOVED"])
        || kind.ends_with("_ADDED") && *kind != "SCHEMA_ADDED"
    {
        format!("the {reader} schema restricts this, and the {writer} one does not")
    } else if kind.ends_with("_INCREASED") || *kind == "MULTIPLE_OF_EXPANDED" {
        format!("the {reader} schema demands more here than the {writer} one")
    } else if kind.ends_with("_DECREASED") {
        format!("the {reader} schema admits less here than the {writer} one")
    } else if is_one_of(&["PATTERN_CHANGED", "MULTIPLE_OF_CHANGED", "DEPENDENCY_ARRAY_CHANGED"]) {
        format!("the {reader} schema says something else here than the {writer} one")
    } else if kind.ends_with("_NARROWED") && *kind != "TYPE_NARROWED" {
        format!("the {reader} schema offers fewer choices here than the {writer} one")
    } else if kind.ends_with("_EXTENDED") {
        format!("the {reader} schema sets more conditions here than the {writer} one")
    } else if kind.ends_with("ADDED_TO_OPEN_CONTENT_MODEL") {
        format!("the {reader} schema describes this, for which the {writer} one allowed any value")
    } else if kind.ends_with("ADDED_TO_UNOPEN_CONTENT_MODEL") {
        format!(
            "the {reader} schema requires this property, which data of the {writer} one cannot be relied on to have"
        )
    } else if kind.ends_with("REMOVED_FROM_CLOSED_CONTENT_MODEL") {
        format!("the {reader} schema forbids this, which the {writer} one describes")
    } else if kind.contains("_REMOVED_NOT_COVERED_") {
        format!("the {writer} schema describes this, and what the {reader} one says of all else does not admit it")
    } else if kind.contains("_ADDED_NOT_COVERED_") {
        format!("the {reader} schema describes this, and does not admit all that the {writer} one allowed for all else")
    } else if kind.ends_with("_CHANGED") || *kind == "TYPE_NARROWED" {
        format!("the {reader} type does not admit all that the {writer} one does")
    } else {
        return String::new();
    };
    format!("{path}: {text}")
}
