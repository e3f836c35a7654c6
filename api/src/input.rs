//! A request's JSON body: read under the route's limit, and refused with the name of the field at fault.
//!
//! poem-openapi's own `Json` has no limit and says only which type did not parse; so no endpoint takes it.

use crate::{Problem, limits};
use poem::{Request, RequestBody, http::header};
use poem_openapi::{
    ApiExtractor, ApiExtractorType, ExtractParamOptions,
    error::ContentTypeError,
    payload::{Json, Payload},
    registry::{MetaMediaType, MetaRequest, MetaSchema, MetaSchemaRef, Registry},
    types::ParseFromJSON,
};
use serde_json::Value;

/// A JSON body of at most `MAX` bytes.
#[derive(Debug)]
pub struct Input<T, const MAX: usize = { limits::BODY_BYTES_MAX }>(pub T);

impl<'a, T: ParseFromJSON, const MAX: usize> ApiExtractor<'a> for Input<T, MAX> {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::RequestObject];
    type ParamType = ();
    type ParamRawType = ();

    fn register(registry: &mut Registry) {
        T::register(registry);
    }

    fn request_meta() -> Option<MetaRequest> {
        let content = vec![MetaMediaType { content_type: "application/json", schema: T::schema_ref() }];
        Some(MetaRequest { description: None, content, required: true })
    }

    async fn from_request(
        request: &'a Request,
        body: &mut RequestBody,
        _: ExtractParamOptions<()>,
    ) -> poem::Result<Input<T, MAX>> {
        Ok(Input(json::<T, MAX>(request, body).await?.0))
    }
}

/// A body as JSON, and its text.
async fn json<T: ParseFromJSON, const MAX: usize>(
    request: &Request,
    body: &mut RequestBody,
) -> poem::Result<(T, Vec<u8>)> {
    check_type::<T>(request)?;
    let bytes = read::<MAX>(request, body).await?;
    Ok((parse(&bytes)?, bytes))
}

/// A JSON body and its text, for what parsing forgets: the order of keys.
#[derive(Debug)]
pub struct WithText<T>(pub T, pub Vec<u8>);

impl<'a, T: ParseFromJSON> ApiExtractor<'a> for WithText<T> {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::RequestObject];
    type ParamType = ();
    type ParamRawType = ();

    fn register(registry: &mut Registry) {
        T::register(registry);
    }

    fn request_meta() -> Option<MetaRequest> {
        Input::<T>::request_meta()
    }

    async fn from_request(
        request: &'a Request,
        body: &mut RequestBody,
        _: ExtractParamOptions<()>,
    ) -> poem::Result<WithText<T>> {
        let (value, text) = json::<T, { limits::BODY_BYTES_MAX }>(request, body).await?;
        Ok(WithText(value, text))
    }
}

/// A JSON body that may be left out: clients that have nothing to say send none, and no content type.
#[derive(Debug)]
pub struct Perhaps<T>(pub Option<T>);

impl<'a, T: ParseFromJSON> ApiExtractor<'a> for Perhaps<T> {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::RequestObject];
    type ParamType = ();
    type ParamRawType = ();

    fn register(registry: &mut Registry) {
        T::register(registry);
    }

    fn request_meta() -> Option<MetaRequest> {
        Input::<T>::request_meta().map(|meta| MetaRequest { required: false, ..meta })
    }

    async fn from_request(
        request: &'a Request,
        body: &mut RequestBody,
        _: ExtractParamOptions<()>,
    ) -> poem::Result<Perhaps<T>> {
        let bytes = read::<{ limits::BODY_BYTES_MAX }>(request, body).await?;
        match bytes.is_empty() {
            true => Ok(Perhaps(None)),
            false => {
                check_type::<T>(request)?;
                Ok(Perhaps(Some(parse(&bytes)?)))
            }
        }
    }
}

async fn read<const MAX: usize>(request: &Request, body: &mut RequestBody) -> poem::Result<Vec<u8>> {
    let length = request.header(header::CONTENT_LENGTH).and_then(|length| length.parse().ok());
    Ok(limits::read(body.take()?, length, MAX).await?)
}

fn check_type<T: ParseFromJSON>(request: &Request) -> Result<(), ContentTypeError> {
    let content_type = request.content_type().ok_or(ContentTypeError::ExpectContentType)?;
    match <Json<T> as Payload>::check_content_type(content_type) {
        true => Ok(()),
        false => Err(ContentTypeError::NotSupported { content_type: content_type.into() }),
    }
}

fn parse<T: ParseFromJSON>(bytes: &[u8]) -> Result<T, Problem> {
    let value: Value = serde_json::from_slice(bytes).map_err(|e| Problem::bad(format!("the body is not JSON: {e}")))?;
    let mut registry = Registry::new();
    T::register(&mut registry);
    // Looked for before parsing: the parser's own words lack the field.
    if let Some((field, reason)) = fault(&registry, &T::schema_ref(), &value, "") {
        return Err(if field.is_empty() {
            Problem::bad(format!("the body {reason}"))
        } else {
            Problem::invalid(field, reason)
        });
    }
    T::parse_from_json(Some(value)).map_err(|e| Problem::bad(e.into_message()))
}

/// The first field that does not fit its schema, by its path, and why.
pub(crate) fn fault(
    registry: &Registry,
    schema: &MetaSchemaRef,
    value: &Value,
    path: &str,
) -> Option<(String, String)> {
    let schema = match schema {
        MetaSchemaRef::Inline(schema) => schema,
        MetaSchemaRef::Reference(name) => registry.schemas.get(name)?,
    };
    // A described field that refers to a type is that type and its description.
    if let Some(found) = schema.all_of.iter().find_map(|schema| fault(registry, schema, value, path)) {
        return Some(found);
    }
    let fault_here = |reason: String| Some((path.to_owned(), reason));
    if !schema.any_of.is_empty() {
        return no_alternative(registry, &schema.any_of, value, path);
    }
    let fits = match schema.ty {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        _ => true,
    };
    if !fits {
        let article = if schema.ty.starts_with(['a', 'i', 'o']) { "an" } else { "a" };
        return fault_here(format!("must be {article} {}", schema.ty));
    }
    if !schema.enum_items.is_empty() && !schema.enum_items.contains(value) {
        let items: Vec<_> = schema.enum_items.iter().filter_map(Value::as_str).collect();
        return fault_here(format!("must be one of {}", items.join(", ")));
    }
    if let Some(reason) = out_of_bounds(schema, value) {
        return fault_here(reason);
    }
    let below = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    if let Some(object) = value.as_object() {
        let given = |name: &str| object.get(name).filter(|v| !v.is_null());
        if let Some(name) = schema.required.iter().find(|name| given(name).is_none()) {
            return Some((below(name), "is required".into()));
        }
        return schema.properties.iter().find_map(|(name, schema)| fault(registry, schema, given(name)?, &below(name)));
    }
    let items = schema.items.as_ref()?;
    value.as_array()?.iter().enumerate().find_map(|(i, item)| fault(registry, items, item, &format!("{path}[{i}]")))
}

/// Why a value fits none of the schemas that it may have: the fault that lies deepest is of the one that was meant.
fn no_alternative(
    registry: &Registry,
    any_of: &[MetaSchemaRef],
    value: &Value,
    path: &str,
) -> Option<(String, String)> {
    let faults: Option<Vec<_>> = any_of.iter().map(|schema| fault(registry, schema, value, path)).collect();
    let faults = faults?;
    if let Some(deepest) = faults.iter().filter(|(at, _)| at.len() > path.len()).max_by_key(|(at, _)| at.len()) {
        return Some(deepest.clone());
    }
    let (at, _) = faults.first()?;
    let reasons: Vec<_> = faults.iter().map(|(_, reason)| reason.trim_start_matches("must be ")).collect();
    Some((at.clone(), format!("must be {}", reasons.join(" or "))))
}

/// The integers that a format holds, where the schema doesn't say its bounds: the parser's own words lack the field.
fn out_of_format(format: &str, value: &Value) -> Option<String> {
    let signed =
        |max: i64| value.as_i64().is_none_or(|n| n > max || n < -max - 1).then(|| format!("{} to {max}", -max - 1));
    let unsigned = |max: u64| value.as_u64().is_none_or(|n| n > max).then(|| format!("0 to {max}"));
    let range = match format {
        "int64" => signed(i64::MAX),
        "int32" => signed(i32::MAX.into()),
        "uint64" => unsigned(u64::MAX),
        "uint32" => unsigned(u32::MAX.into()),
        "uint16" => unsigned(u16::MAX.into()),
        _ => None,
    };
    range.map(|range| format!("must be a whole number from {range}"))
}

fn out_of_bounds(schema: &MetaSchema, value: &Value) -> Option<String> {
    let number = value.as_f64();
    let chars = value.as_str().map(|s| s.chars().count());
    let items = value.as_array().map(Vec::len);
    if let Some(min) = schema.minimum.filter(|min| number.is_some_and(|n| n < *min)) {
        return Some(format!("must be at least {min}"));
    }
    if let Some(max) = schema.maximum.filter(|max| number.is_some_and(|n| n > *max)) {
        return Some(format!("must be at most {max}"));
    }
    if schema.min_length.is_some_and(|min| chars.is_some_and(|n| n < min)) {
        return Some("must not be empty".into());
    }
    if let Some(max) = schema.max_length.filter(|max| chars.is_some_and(|n| n > *max)) {
        return Some(format!("must have at most {max} characters"));
    }
    if schema.min_items.is_some_and(|min| items.is_some_and(|n| n < min)) {
        return Some("must not be empty".into());
    }
    if let Some(max) = schema.max_items.filter(|max| items.is_some_and(|n| n > *max)) {
        return Some(format!("must have at most {max} items"));
    }
    out_of_format(schema.format.filter(|_| schema.ty == "integer")?, value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::openai::text_or::TextOr;
    use poem_openapi::{Enum, Object};

    #[derive(Debug, Enum)]
    #[oai(rename_all = "lowercase")]
    enum Colour {
        Red,
        Blue,
    }

    #[derive(Debug, Object)]
    struct Part {
        #[oai(validator(min_length = 1))]
        text: String,
    }

    #[derive(Debug, Object)]
    struct Whole {
        name: String,
        #[oai(validator(maximum(value = "3")))]
        count: Option<u32>,
        colour: Option<Colour>,
        #[oai(validator(max_items = 2))]
        parts: Option<Vec<Part>>,
        either: Option<TextOr<Vec<Part>>>,
        seed: Option<i64>,
        /// A field with a description.
        described: Option<Colour>,
    }

    fn check(body: &str, field: Option<&str>, detail: &str) {
        let problem = parse::<Whole>(body.as_bytes()).unwrap_err();
        assert_eq!((problem.field(), problem.detail()), (field, detail));
    }

    #[test]
    fn a_fault_is_told_with_the_path_of_its_field() {
        check("{}", Some("name"), "name: is required");
        check(r#"{"name":null}"#, Some("name"), "name: is required");
        check(r#"{"name":7}"#, Some("name"), "name: must be a string");
        check(r#"{"name":"a","count":4}"#, Some("count"), "count: must be at most 3");
        check(r#"{"name":"a","count":1.5}"#, Some("count"), "count: must be an integer");
        check(r#"{"name":"a","colour":"green"}"#, Some("colour"), "colour: must be one of red, blue");
        check(r#"{"name":"a","described":"green"}"#, Some("described"), "described: must be one of red, blue");
        check(r#"{"name":"a","parts":[{"text":"x"},{}]}"#, Some("parts[1].text"), "parts[1].text: is required");
        check(r#"{"name":"a","parts":[{"text":""}]}"#, Some("parts[0].text"), "parts[0].text: must not be empty");
        check(r#"{"name":"a","parts":[1,2,3]}"#, Some("parts"), "parts: must have at most 2 items");
    }

    #[test]
    fn a_fault_in_one_of_several_shapes_is_told_with_its_field() {
        check(r#"{"name":"a","either":7}"#, Some("either"), "either: must be a string or an array");
        check(r#"{"name":"a","either":[{}]}"#, Some("either[0].text"), "either[0].text: is required");
        assert!(parse::<Whole>(br#"{"name":"a","either":"x"}"#).is_ok());
        assert!(parse::<Whole>(br#"{"name":"a","either":[{"text":"x"}]}"#).is_ok());
    }

    #[test]
    fn a_number_that_its_type_can_t_hold_is_told_with_its_field() {
        let detail = format!("seed: must be a whole number from {} to {}", i64::MIN, i64::MAX);
        check(r#"{"name":"a","seed":9223372036854775808}"#, Some("seed"), &detail);
        check(r#"{"name":"a","count":-1}"#, Some("count"), "count: must be a whole number from 0 to 4294967295");
    }

    #[test]
    fn a_body_that_is_no_object_is_refused() {
        check("[]", None, "the body must be an object");
        assert!(parse::<Whole>(b"{").unwrap_err().detail().starts_with("the body is not JSON"));
        assert!(parse::<Whole>(b"").unwrap_err().detail().starts_with("the body is not JSON"));
    }

    #[test]
    fn unknown_fields_and_nulls_are_let_through() {
        let whole = parse::<Whole>(br#"{"name":"a","count":null,"new":{}}"#).unwrap();
        assert_eq!((whole.name.as_str(), whole.count), ("a", None));
    }
}
