//! Nested values whose parts are brought into another form.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, ListArray, MapArray, StructArray};
use arrow::datatypes::DataType;
use arrow::error::ArrowError;

/// `array` with the names that fields have in `to`, which is its own type but for those.
pub(crate) fn renamed(array: &ArrayRef, to: &DataType) -> Result<ArrayRef, ArrowError> {
    map_leaves(array, to, &|values, _| Ok(Arc::clone(values)))
}

/// `array` in the shape of `to`, which nests as its own type does: `leaf` makes what holds no others.
pub(crate) fn map_leaves(
    array: &ArrayRef,
    to: &DataType,
    leaf: &dyn Fn(&ArrayRef, &DataType) -> Result<ArrayRef, ArrowError>,
) -> Result<ArrayRef, ArrowError> {
    Ok(match (array.data_type(), to) {
        (DataType::Struct(_), DataType::Struct(fields)) => {
            let array = array.as_struct();
            let columns = array.columns().iter().zip(fields);
            let columns = columns.map(|(column, field)| map_leaves(column, field.data_type(), leaf));
            let columns = columns.collect::<Result<Vec<_>, _>>()?;
            Arc::new(StructArray::try_new(fields.clone(), columns, array.nulls().cloned())?)
        }
        (DataType::List(_), DataType::List(item)) => {
            let array = array.as_list::<i32>();
            let items = map_leaves(array.values(), item.data_type(), leaf)?;
            let (offsets, nulls) = (array.offsets().clone(), array.nulls().cloned());
            Arc::new(ListArray::try_new(Arc::clone(item), offsets, items, nulls)?)
        }
        (DataType::Map(..), DataType::Map(entries, ordered)) => {
            let array = array.as_map();
            let pairs: ArrayRef = Arc::new(array.entries().clone());
            let pairs = map_leaves(&pairs, entries.data_type(), leaf)?.as_struct().clone();
            let (offsets, nulls) = (array.offsets().clone(), array.nulls().cloned());
            Arc::new(MapArray::try_new(Arc::clone(entries), offsets, pairs, nulls, *ordered)?)
        }
        _ => leaf(array, to)?,
    })
}
