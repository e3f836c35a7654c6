//! The whole API on one page: each tag's operations, methods and paths, in aligned columns.

use anyhow::{Context, Result};
use serde_json::Value;
use std::{collections::BTreeMap, fmt::Write};

/// The page of this specification.
pub fn tags(spec: &Value) -> Result<String> {
    let mut page = String::new();
    for (tag, operations) in by_tag(spec)? {
        let width = |column: fn(&Row) -> &str| operations.iter().map(|row| column(row).len()).max().unwrap_or(0);
        let (ids, methods) = (width(|row| &row.id), width(|row| &row.method));
        writeln!(page, "{tag}")?;
        for Row { id, method, path } in &operations {
            writeln!(page, "    {id:ids$}  {method:methods$}  {path}")?;
        }
        writeln!(page)?;
    }
    Ok(page.trim_end().to_owned() + "\n")
}

struct Row {
    id: String,
    method: String,
    path: String,
}

/// The rows of each tag, in order of their paths.
fn by_tag(spec: &Value) -> Result<BTreeMap<String, Vec<Row>>> {
    let mut tags: BTreeMap<String, Vec<Row>> = BTreeMap::new();
    for (path, methods) in spec["paths"].as_object().context("the specification has paths")? {
        for (method, operation) in methods.as_object().context("a path has methods")? {
            let text = |field: &Value| field.as_str().map(str::to_owned).with_context(|| format!("{method} {path}"));
            let row = Row { id: text(&operation["operationId"])?, method: method.to_uppercase(), path: path.clone() };
            tags.entry(text(&operation["tags"][0])?).or_default().push(row);
        }
    }
    Ok(tags)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn columns_are_aligned() {
        let operation = |id: &str| json!({"operationId": id, "tags": ["tasks"]});
        let spec = json!({"paths": {
            "/api/tasks": {"get": operation("tasks_list"), "post": operation("tasks_create")},
            "/api/tasks/{id}": {"delete": operation("tasks_delete")},
        }});
        let expected = "\
tasks
    tasks_list    GET     /api/tasks
    tasks_create  POST    /api/tasks
    tasks_delete  DELETE  /api/tasks/{id}
";
        assert_eq!(tags(&spec).unwrap(), expected);
    }
}
