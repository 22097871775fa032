//! The types that go over the wire: dictionaries are sent as their values and, unless views are wanted, Utf8View and
//! BinaryView as Utf8 and Binary, at any depth.
//!
//! Not every client reads dictionaries and views (flightsql-dbapi, older JDBC), and a dictionary would be sent again
//! with each batch anyway. `arrow-flight`'s own encoder is not used for this: it declares LargeList columns as List
//! and cuts slices of a large batch by the size of the whole.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, RecordBatchOptions, make_array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef, UnionFields};
use tereza_runtime::{Error, Result};

/// The schema as it is sent; names, nullability and metadata stay.
pub(crate) fn plain_schema(schema: &SchemaRef, views: bool) -> SchemaRef {
    let fields: Vec<FieldRef> = schema.fields().iter().map(|field| plain_field(field, views)).collect();
    if fields.iter().zip(schema.fields()).all(|(plain, field)| Arc::ptr_eq(plain, field)) {
        return Arc::clone(schema);
    }
    Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone()))
}

/// The batch with the columns of `schema`, which [`plain_schema`] made from the batch's.
pub(crate) fn plain_batch(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    if batch.num_columns() != schema.fields().len() {
        return Err(Error::internal(format!(
            "a batch has {} columns where {} were announced",
            batch.num_columns(),
            schema.fields().len()
        )));
    }
    let mut columns = Vec::with_capacity(batch.num_columns());
    for (column, field) in batch.columns().iter().zip(schema.fields()) {
        columns.push(
            plain_array(column, field.data_type())
                .map_err(|error| error.context(format!("column '{}'", field.name())))?,
        );
    }
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)
        .map_err(|error| Error::internal(format!("a batch does not have the announced schema: {error}")))
}

fn plain_field(field: &FieldRef, views: bool) -> FieldRef {
    match plain_type(field.data_type(), views) {
        Some(data_type) => Arc::new(Field::clone(field).with_data_type(data_type)),
        None => Arc::clone(field),
    }
}

/// The type as it is sent, or `None` if it is sent as it is.
fn plain_type(data_type: &DataType, views: bool) -> Option<DataType> {
    let child = |field: &FieldRef| {
        let plain = plain_field(field, views);
        (!Arc::ptr_eq(&plain, field)).then_some(plain)
    };
    match data_type {
        DataType::Utf8View if !views => Some(DataType::Utf8),
        DataType::BinaryView if !views => Some(DataType::Binary),
        DataType::Dictionary(_, value) => Some(plain_type(value, views).unwrap_or_else(|| value.as_ref().clone())),
        DataType::List(field) => child(field).map(DataType::List),
        DataType::LargeList(field) => child(field).map(DataType::LargeList),
        DataType::ListView(field) => child(field).map(DataType::ListView),
        DataType::LargeListView(field) => child(field).map(DataType::LargeListView),
        DataType::FixedSizeList(field, size) => child(field).map(|field| DataType::FixedSizeList(field, *size)),
        DataType::Map(field, sorted) => child(field).map(|field| DataType::Map(field, *sorted)),
        DataType::RunEndEncoded(ends, field) => {
            child(field).map(|field| DataType::RunEndEncoded(Arc::clone(ends), field))
        }
        DataType::Struct(fields) => fields
            .iter()
            .any(|field| child(field).is_some())
            .then(|| DataType::Struct(fields.iter().map(|field| plain_field(field, views)).collect())),
        DataType::Union(fields, mode) => fields.iter().any(|(_, field)| child(field).is_some()).then(|| {
            let plain: UnionFields = fields.iter().map(|(id, field)| (id, plain_field(field, views))).collect();
            DataType::Union(plain, *mode)
        }),
        _ => None,
    }
}

fn plain_array(array: &ArrayRef, target: &DataType) -> Result<ArrayRef> {
    let failed = |error| Error::internal(format!("cannot send {} as {target}: {error}", array.data_type()));
    if array.data_type() == target {
        return Ok(Arc::clone(array));
    }
    if let DataType::Dictionary(_, value) = array.data_type() {
        return plain_array(&cast(array, value).map_err(failed)?, target);
    }
    let data = array.to_data();
    if data.child_data().is_empty() {
        return cast(array, target).map_err(failed);
    }
    // A nested array keeps its own buffers; only its children change.
    let targets = child_types(target);
    if targets.len() != data.child_data().len() {
        return Err(Error::internal(format!("cannot send {} as {target}", array.data_type())));
    }
    let mut children = Vec::with_capacity(targets.len());
    for (child, target) in data.child_data().iter().zip(targets) {
        children.push(plain_array(&make_array(child.clone()), target)?.to_data());
    }
    let plain = data.into_builder().data_type(target.clone()).child_data(children).build().map_err(failed)?;
    Ok(make_array(plain))
}

/// The types of the child arrays, in the order of [`arrow::array::ArrayData::child_data`].
fn child_types(data_type: &DataType) -> Vec<&DataType> {
    match data_type {
        DataType::List(field)
        | DataType::LargeList(field)
        | DataType::ListView(field)
        | DataType::LargeListView(field)
        | DataType::FixedSizeList(field, _)
        | DataType::Map(field, _) => vec![field.data_type()],
        DataType::RunEndEncoded(ends, values) => vec![ends.data_type(), values.data_type()],
        DataType::Struct(fields) => fields.iter().map(|field| field.data_type()).collect(),
        DataType::Union(fields, _) => fields.iter().map(|(_, field)| field.data_type()).collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{DictionaryArray, Int32Array, LargeListArray, StringArray, StringViewArray, StructArray};
    use arrow::buffer::OffsetBuffer;
    use arrow::datatypes::{Fields, Int32Type};

    use super::*;

    fn send(array: ArrayRef, views: bool) -> ArrayRef {
        let field = Field::new("c", array.data_type().clone(), true).with_metadata([("k".into(), "v".into())].into());
        let schema = Arc::new(Schema::new_with_metadata(vec![field], [("s".into(), "t".into())].into()));
        let batch = RecordBatch::try_new(Arc::clone(&schema), vec![array]).unwrap();
        let plain = plain_schema(&schema, views);
        assert_eq!(plain.metadata(), schema.metadata());
        assert_eq!(plain.field(0).metadata(), schema.field(0).metadata());
        let sent = plain_batch(&batch, &plain).unwrap();
        assert_eq!(sent.schema(), plain);
        Arc::clone(sent.column(0))
    }

    #[test]
    fn views_become_plain_unless_wanted() {
        let array: ArrayRef = Arc::new(StringViewArray::from(vec![Some("a"), None, Some("a string that is long")]));
        let expected: ArrayRef = Arc::new(StringArray::from(vec![Some("a"), None, Some("a string that is long")]));
        assert_eq!(&send(Arc::clone(&array), false), &expected);
        assert_eq!(&send(Arc::clone(&array), true), &array);
    }

    #[test]
    fn dictionaries_become_values() {
        let array: ArrayRef = Arc::new(DictionaryArray::<Int32Type>::from_iter([Some("x"), None, Some("x")]));
        let expected: ArrayRef = Arc::new(StringArray::from(vec![Some("x"), None, Some("x")]));
        assert_eq!(&send(array, true), &expected);
    }

    #[test]
    fn nested_views_become_plain_even_in_a_slice() {
        let values: ArrayRef = Arc::new(StringViewArray::from(vec!["a", "b", "c", "d"]));
        let item = Arc::new(Field::new_list_field(DataType::Utf8View, true));
        let list = LargeListArray::new(item, OffsetBuffer::from_lengths([1, 2, 1]), Arc::clone(&values), None);
        let numbers: ArrayRef = Arc::new(Int32Array::from(vec![1, 2, 3]));
        let fields =
            Fields::from(vec![Field::new("l", list.data_type().clone(), true), Field::new("n", DataType::Int32, true)]);
        let structs = StructArray::new(fields, vec![Arc::new(list), numbers], None);
        let sent = send(Arc::new(structs.slice(1, 2)), false);

        let values: ArrayRef = Arc::new(StringArray::from(vec!["b", "c", "d"]));
        let item = Arc::new(Field::new_list_field(DataType::Utf8, true));
        let list = LargeListArray::new(item, OffsetBuffer::from_lengths([2, 1]), values, None);
        let fields =
            Fields::from(vec![Field::new("l", list.data_type().clone(), true), Field::new("n", DataType::Int32, true)]);
        let numbers: ArrayRef = Arc::new(Int32Array::from(vec![2, 3]));
        let expected: ArrayRef = Arc::new(StructArray::new(fields, vec![Arc::new(list), numbers], None));
        assert_eq!(&sent, &expected);
    }

    #[test]
    fn a_schema_without_such_types_is_the_same_schema() {
        let field = Field::new_list("c", Field::new("i", DataType::Int8, false), false);
        let schema = Arc::new(Schema::new(vec![field]));
        assert!(Arc::ptr_eq(&plain_schema(&schema, false), &schema));
    }
}
