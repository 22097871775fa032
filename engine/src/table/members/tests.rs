use arrow::array::{Array, ArrayRef, AsArray, Int32Array, Int64Array};
use arrow::datatypes::{Int32Type, Int64Type};
use datafusion::config::ConfigOptions;
use datafusion::functions::core::get_field;
use datafusion::physical_expr_adapter::{PhysicalExprAdapter, PhysicalExprAdapterFactory};

use super::*;
use crate::table::AnyCase;
use crate::types::arrow_type;

fn schema(columns: &[(&str, &str)]) -> SchemaRef {
    let fields = columns.iter().map(|(name, hive)| Field::new(*name, arrow_type(hive).unwrap(), true));
    Arc::new(Schema::new(fields.collect::<Vec<Field>>()))
}

/// A table and what Spark may have written of it, with a member that the table has not and without one that it has.
fn table_and_file() -> (SchemaRef, SchemaRef) {
    let table = [
        ("id", "bigint"),
        ("st", "struct<aa:int,bb:array<struct<cc:bigint>>,late:int>"),
        ("m", "map<string,struct<q:int>>"),
    ];
    let file = [
        ("M", "map<string,struct<Q:int>>"),
        ("St", "struct<bB:array<struct<more:int,Cc:bigint>>,Aa:int>"),
        ("Id", "bigint"),
    ];
    (schema(&table), schema(&file))
}

fn batch(file: &SchemaRef) -> RecordBatch {
    let text = br#"{"Id":1,"St":{"Aa":5,"bB":[{"more":1,"Cc":7},{"Cc":8}]},"M":{"k":{"Q":9}}}
{"Id":2}
"#;
    let mut reader = arrow::json::ReaderBuilder::new(Arc::clone(file)).build(&text[..]).unwrap();
    reader.next().unwrap().unwrap()
}

fn member(of: Arc<dyn PhysicalExpr>, name: &str, table: &Schema) -> Arc<dyn PhysicalExpr> {
    let options = Arc::new(ConfigOptions::default());
    Arc::new(ScalarFunctionExpr::try_new(get_field(), vec![of, lit(name)], table, options).unwrap())
}

fn adapted(expr: Arc<dyn PhysicalExpr>) -> (Arc<dyn PhysicalExpr>, ArrayRef) {
    let (table, file) = table_and_file();
    let wanted = expr.data_type(&table).unwrap();
    let adapter: Arc<dyn PhysicalExprAdapter> = AnyCase.create(table, Arc::clone(&file)).unwrap();
    let adapted = adapter.rewrite(expr).unwrap();
    let values = adapted.evaluate(&batch(&file)).unwrap().into_array(2).unwrap();
    assert_eq!(values.data_type(), &wanted);
    (adapted, values)
}

#[test]
fn members_of_whole_columns_are_found_in_any_case() {
    let (_, structs) = adapted(Arc::new(Column::new("st", 1)));
    let structs = structs.as_struct();
    assert!(structs.is_null(1));
    let of = |name: &str| structs.column_by_name(name).unwrap();
    assert_eq!(of("aa").as_primitive::<Int32Type>().value(0), 5);
    assert_eq!(of("late").null_count(), 2);
    let inner = of("bb").as_list::<i32>().value(0);
    assert_eq!(inner.as_struct().column(0).as_primitive::<Int64Type>(), &Int64Array::from(vec![7, 8]));

    let (_, maps) = adapted(Arc::new(Column::new("m", 2)));
    let values = Arc::clone(maps.as_map().values());
    assert_eq!(values.as_struct().column_by_name("q").unwrap().as_primitive::<Int32Type>().value(0), 9);
}

/// So that a file is read no further than that member.
#[test]
fn a_member_alone_is_taken_from_the_column_of_the_file() {
    let (table, file) = table_and_file();
    let column = || Arc::new(Column::new("st", 1)) as Arc<dyn PhysicalExpr>;
    let (expr, values) = adapted(member(column(), "aa", &table));
    assert_eq!(values.as_primitive::<Int32Type>(), &Int32Array::from(vec![Some(5), None]));
    let call = ScalarFunctionExpr::try_downcast_func::<GetFieldFunc>(expr.as_ref()).unwrap();
    assert_eq!(call.args()[0].downcast_ref::<Column>(), Some(&Column::new("St", file.index_of("St").unwrap())));

    let (_, lists) = adapted(member(column(), "bb", &table));
    let inner = lists.as_list::<i32>().value(0);
    assert_eq!(inner.as_struct().column_by_name("cc").unwrap().as_primitive::<Int64Type>().value(1), 8);
    let (_, late) = adapted(member(column(), "late", &table));
    assert_eq!(late.null_count(), 2);
}

#[test]
fn names_are_found_exactly_or_in_any_case() {
    let fields = schema(&[("ÄB", "int"), ("äb", "int"), ("Ü", "int")]);
    let found = |name: &str| find(fields.fields(), name).map(|field| field.name().as_str());
    assert_eq!((found("äb"), found("ÄB"), found("ü"), found("b")), (Some("äb"), Some("ÄB"), Some("Ü"), None));
}
