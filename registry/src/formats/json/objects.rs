//! Objects: what may be in them is *open* if anything else may be, *closed* if nothing else may, and *partially open* if what
//! else there is has to fit some schema.

use super::check::{Bound, Check, Found, Side, at_least, at_most, note};
use super::{NodeId, Object, Rest, Schema, Shape};
use crate::formats::{Effort, TooComplex};

const MAX_PROPERTIES: Bound = ("MAX_PROPERTIES_ADDED", "MAX_PROPERTIES_DECREASED");
const MIN_PROPERTIES: Bound = ("MIN_PROPERTIES_ADDED", "MIN_PROPERTIES_INCREASED");

pub(super) fn compare(
    check: &mut Check<'_>,
    side: Side,
    old: &Object,
    new: &Object,
    found: &mut Found,
) -> Result<(), TooComplex> {
    check.effort.spend(old.properties.len() + new.properties.len())?;
    for name in old.properties.keys().filter(|name| new.properties.contains_key(*name)) {
        let is_now_required = new.required.contains(name) && !old.required.contains(name);
        if is_now_required && !check.reader(side).nodes[new.properties[name]].has_default {
            note(found, "REQUIRED_ATTRIBUTE_ADDED", || format!("required/{name}"));
        }
    }
    for (name, was) in &old.properties {
        match new.properties.get(name) {
            Some(is) => check.below(side, &format!("properties/{name}"), *was, *is, found)?,
            None => removed(check, side, name, *was, new, found)?,
        }
    }
    for (name, is) in new.properties.iter().filter(|(name, _)| !old.properties.contains_key(*name)) {
        added(check, side, name, *is, (old, new), found)?;
    }
    compare_dependencies(check, side, old, new, found)?;
    rest(check, side, "additionalProperties", &ADDITIONAL, (old.additional, new.additional), found)?;
    let unevaluated = (as_rest(check.writer(side), old.unevaluated), as_rest(check.reader(side), new.unevaluated));
    rest(check, side, "unevaluatedProperties", &UNEVALUATED, unevaluated, found)?;
    at_most(found, "maxProperties", &MAX_PROPERTIES, old.max, new.max);
    at_least(found, "minProperties", &MIN_PROPERTIES, old.min, new.min);
    Ok(())
}

/// A property that is not named any more: what the new schema does with properties that it does not name decides.
fn removed(
    check: &mut Check<'_>,
    side: Side,
    name: &str,
    was: NodeId,
    new: &Object,
    found: &mut Found,
) -> Result<(), TooComplex> {
    let path = || format!("properties/{name}");
    let reader = check.reader(side);
    match content_of(&mut check.effort, reader, new, name)? {
        Rest::Anything => {}
        Rest::Of(schema) => {
            if !check.is_compatible(side, was, schema)? {
                check.below(side, &path(), was, schema, found)?;
                note(found, "PROPERTY_REMOVED_NOT_COVERED_BY_PARTIALLY_OPEN_CONTENT_MODEL", path);
            }
        }
        Rest::Nothing if matches!(check.writer(side).shape(was), Shape::Nothing) => {}
        Rest::Nothing => note(found, "PROPERTY_REMOVED_FROM_CLOSED_CONTENT_MODEL", path),
    }
    Ok(())
}

/// A property that is new: what the old schema did with properties that it did not name decides, as such data may be there.
fn added(
    check: &mut Check<'_>,
    side: Side,
    name: &str,
    is: NodeId,
    (old, new): (&Object, &Object),
    found: &mut Found,
) -> Result<(), TooComplex> {
    let path = || format!("properties/{name}");
    let is_required = new.required.contains(name);
    let has_default = check.reader(side).nodes[is].has_default;
    let writer = check.writer(side);
    match content_of(&mut check.effort, writer, old, name)? {
        Rest::Anything => match (is_required, has_default) {
            _ if matches!(check.reader(side).shape(is), Shape::Anything) => {}
            (true, false) => note(found, "REQUIRED_PROPERTY_ADDED_TO_OPEN_CONTENT_MODEL", path),
            _ if check.is_lenient() => {}
            (true, true) => note(found, "REQUIRED_PROPERTY_WITH_DEFAULT_ADDED_TO_OPEN_CONTENT_MODEL", path),
            (false, _) => note(found, "OPTIONAL_PROPERTY_ADDED_TO_OPEN_CONTENT_MODEL", path),
        },
        content => {
            if let Rest::Of(schema) = content
                && !check.is_compatible(side, schema, is)?
            {
                check.below(side, &path(), schema, is, found)?;
                note(found, "PROPERTY_ADDED_NOT_COVERED_BY_PARTIALLY_OPEN_CONTENT_MODEL", path);
            }
            if is_required && !has_default {
                note(found, "REQUIRED_PROPERTY_ADDED_TO_UNOPEN_CONTENT_MODEL", path);
            }
        }
    }
    Ok(())
}

/// Steps that a pattern takes for each byte of a name: a large one may be in thousands of states at once.
const STEPS_PER_BYTE: usize = 4;

/// What an object lets through under a name that it does not have among its properties.
fn content_of(effort: &mut Effort, schema: &Schema, object: &Object, name: &str) -> Result<Rest, TooComplex> {
    for (pattern, schema) in &object.patterns {
        effort.spend(1 + name.len() * STEPS_PER_BYTE)?;
        if pattern.as_ref().is_some_and(|regex| regex.is_match(name)) {
            return Ok(Rest::Of(*schema));
        }
    }
    Ok(match object.additional {
        // Where there are patterns, the rest is not open even if they do not match: nobody knows what they stand for.
        Rest::Anything if object.patterns.is_empty() => as_rest(schema, object.unevaluated),
        Rest::Anything => Rest::Nothing,
        rest => rest,
    })
}

/// What `unevaluatedProperties` or `unevaluatedItems` says.
pub(super) fn as_rest(schema: &Schema, unevaluated: Option<NodeId>) -> Rest {
    match unevaluated {
        None => Rest::Anything,
        Some(id) => match schema.shape(id) {
            Shape::Anything => Rest::Anything,
            Shape::Nothing => Rest::Nothing,
            _ => Rest::Of(id),
        },
    }
}

/// The names of what may be wrong with the rest: that nothing is let through, and that less is.
pub(super) type RestKinds = (&'static str, &'static str);

const ADDITIONAL: RestKinds = ("ADDITIONAL_PROPERTIES_REMOVED", "ADDITIONAL_PROPERTIES_NARROWED");
const UNEVALUATED: RestKinds = ("UNEVALUATED_PROPERTIES_REMOVED", "UNEVALUATED_PROPERTIES_NARROWED");

/// Compares what is let through of that which is not named.
pub(super) fn rest(
    check: &mut Check<'_>,
    side: Side,
    word: &str,
    kinds: &RestKinds,
    rests: (Rest, Rest),
    found: &mut Found,
) -> Result<(), TooComplex> {
    match rests {
        (Rest::Nothing, _) | (_, Rest::Anything) => {}
        (_, Rest::Nothing) => note(found, kinds.0, || word.into()),
        (Rest::Anything, Rest::Of(_)) => note(found, kinds.1, || word.into()),
        (Rest::Of(old), Rest::Of(new)) => check.below(side, word, old, new, found)?,
    }
    Ok(())
}

fn compare_dependencies(
    check: &mut Check<'_>,
    side: Side,
    old: &Object,
    new: &Object,
    found: &mut Found,
) -> Result<(), TooComplex> {
    for (name, is) in &new.needed_properties {
        let path = || format!("dependencies/{name}");
        match old.needed_properties.get(name) {
            None => note(found, "DEPENDENCY_ARRAY_ADDED", path),
            Some(was) if is.is_subset(was) => {}
            Some(was) if was.is_subset(is) => note(found, "DEPENDENCY_ARRAY_EXTENDED", path),
            Some(_) => note(found, "DEPENDENCY_ARRAY_CHANGED", path),
        }
    }
    for (name, is) in &new.needed_schemas {
        let path = format!("dependencies/{name}");
        match old.needed_schemas.get(name) {
            None => note(found, "DEPENDENCY_SCHEMA_ADDED", || path),
            Some(was) => check.below(side, &path, *was, *is, found)?,
        }
    }
    Ok(())
}
