//! Arrays: open, closed or partially open after the items that are named one by one, as objects are.

use super::check::{Bound, Check, Found, Side, at_least, at_most, note};
use super::objects::{RestKinds, as_rest, rest};
use super::{Array, Rest, Schema, Shape};
use crate::formats::TooComplex;

const MAX_ITEMS: Bound = ("MAX_ITEMS_ADDED", "MAX_ITEMS_DECREASED");
const MIN_ITEMS: Bound = ("MIN_ITEMS_ADDED", "MIN_ITEMS_INCREASED");
const MAX_CONTAINS: Bound = ("MAX_CONTAINS_ADDED", "MAX_CONTAINS_DECREASED");
const MIN_CONTAINS: Bound = ("MIN_CONTAINS_ADDED", "MIN_CONTAINS_INCREASED");
const ADDITIONAL: RestKinds = ("ADDITIONAL_ITEMS_REMOVED", "ADDITIONAL_ITEMS_NARROWED");
const UNEVALUATED: RestKinds = ("UNEVALUATED_ITEMS_REMOVED", "UNEVALUATED_ITEMS_NARROWED");

pub(super) fn compare(
    check: &mut Check<'_>,
    side: Side,
    old: &Array,
    new: &Array,
    found: &mut Found,
) -> Result<(), TooComplex> {
    match (old.all, new.all) {
        (Some(was), Some(is)) => check.below(side, "items", was, is, found)?,
        (None, Some(is)) if !matches!(check.reader(side).shape(is), Shape::Anything) => {
            note(found, "SCHEMA_ADDED", || "items".into());
        }
        _ => {}
    }
    for (index, (was, is)) in old.items.iter().zip(&new.items).enumerate() {
        check.below(side, &format!("items/{index}"), *was, *is, found)?;
    }
    for (index, was) in old.items.iter().enumerate().skip(new.items.len()) {
        let path = || format!("items/{index}");
        match content_of(check.reader(side), new) {
            Rest::Anything => {}
            Rest::Of(schema) => {
                if !check.is_compatible(side, *was, schema)? {
                    check.below(side, &path(), *was, schema, found)?;
                    note(found, "ITEM_REMOVED_NOT_COVERED_BY_PARTIALLY_OPEN_CONTENT_MODEL", path);
                }
            }
            Rest::Nothing if matches!(check.writer(side).shape(*was), Shape::Nothing) => {}
            Rest::Nothing => note(found, "ITEM_REMOVED_FROM_CLOSED_CONTENT_MODEL", path),
        }
    }
    for (index, is) in new.items.iter().enumerate().skip(old.items.len()) {
        let path = || format!("items/{index}");
        match content_of(check.writer(side), old) {
            Rest::Anything if matches!(check.reader(side).shape(*is), Shape::Anything) => {}
            Rest::Anything => note(found, "ITEM_ADDED_TO_OPEN_CONTENT_MODEL", path),
            Rest::Of(schema) => {
                if !check.is_compatible(side, schema, *is)? {
                    check.below(side, &path(), schema, *is, found)?;
                    note(found, "ITEM_ADDED_NOT_COVERED_BY_PARTIALLY_OPEN_CONTENT_MODEL", path);
                }
            }
            Rest::Nothing => {}
        }
    }
    rest(check, side, "additionalItems", &ADDITIONAL, (old.additional, new.additional), found)?;
    let unevaluated = (as_rest(check.writer(side), old.unevaluated), as_rest(check.reader(side), new.unevaluated));
    rest(check, side, "unevaluatedItems", &UNEVALUATED, unevaluated, found)?;
    at_most(found, "maxItems", &MAX_ITEMS, old.max, new.max);
    at_least(found, "minItems", &MIN_ITEMS, old.min, new.min);
    if new.is_unique && !old.is_unique {
        note(found, "UNIQUE_ITEMS_ADDED", || "uniqueItems".into());
    }
    at_most(found, "maxContains", &MAX_CONTAINS, old.max_contains, new.max_contains);
    at_least(found, "minContains", &MIN_CONTAINS, old.min_contains, new.min_contains);
    Ok(())
}

/// What an array lets through after the items that it names.
fn content_of(schema: &Schema, array: &Array) -> Rest {
    match array.additional {
        Rest::Anything => as_rest(schema, array.unevaluated),
        rest => rest,
    }
}
