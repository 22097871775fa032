use super::*;

#[test]
fn unknown_options_are_named_with_the_nearest() {
    let known = ["field-delimiter", "null-literal", "properties."];
    let check = |name: &str| FormatOptions::new("csv").with(name, "x").check(&known);
    assert!(check("null-literal").is_ok());
    assert!(check("properties.a.b").is_ok());
    let near = check("feld-delimiter").unwrap_err();
    assert!(near.to_string().contains("format `csv` has no option `csv.feld-delimiter`"), "{near}");
    assert_eq!(near.hint(), Some("did you mean `csv.field-delimiter`?"));
    let far = check("zzz").unwrap_err();
    assert_eq!(far.hint(), Some("its options are `field-delimiter`, `null-literal`, `properties.`"));
}

#[test]
fn values_are_checked() {
    let options = FormatOptions::new("csv").with("flag", "maybe").with("char", "ab").with("one", "b");
    assert!(options.is("flag", false).unwrap_err().to_string().contains("`csv.flag` is `maybe`, not true or false"));
    assert!(options.is("other", true).unwrap());
    assert!(options.character("char").unwrap_err().to_string().contains("a single character"));
    assert_eq!(options.character("one").unwrap(), Some('b'));
    assert!(options.needed("url").unwrap_err().to_string().contains("needs the option `csv.url`"));
}
