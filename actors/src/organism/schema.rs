//! What a message to an agent looks like, as XML Schema and as an example: a view of its definition for those who want one.
//!
//! Messages are JSON; nothing here parses XML.

use super::draft::{Agent, FieldKind};
use std::fmt::Write;

/// The XML Schema (W3C, 1.0) of a message to this agent.
pub fn xsd(agent: &Agent) -> String {
    let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    out.push_str("<xs:schema xmlns:xs=\"http://www.w3.org/2001/XMLSchema\">\n");
    let tag = &agent.payload;
    let mut line = |text: std::fmt::Arguments<'_>| writeln!(out, "{text}").expect("writing to a string can't fail");
    if agent.fields.is_empty() {
        line(format_args!("  <xs:element name=\"{tag}\" type=\"xs:string\"/>"));
    } else {
        line(format_args!("  <xs:element name=\"{tag}\">\n    <xs:complexType>\n      <xs:all>"));
        for field in &agent.fields {
            let kind = match field.kind {
                FieldKind::Text => "xs:string",
                FieldKind::Number => "xs:decimal",
                FieldKind::Boolean => "xs:boolean",
            };
            let least = if field.optional { " minOccurs=\"0\"" } else { "" };
            line(format_args!("        <xs:element name=\"{}\" type=\"{kind}\"{least}/>", field.name));
        }
        line(format_args!("      </xs:all>\n    </xs:complexType>\n  </xs:element>"));
    }
    line(format_args!("</xs:schema>"));
    out
}

/// A message to this agent, as XML.
pub fn example(agent: &Agent) -> String {
    let tag = &agent.payload;
    if agent.fields.is_empty() {
        return format!("<{tag}>...</{tag}>");
    }
    let fields = agent.fields.iter().map(|field| {
        let value = match field.kind {
            FieldKind::Text => "...",
            FieldKind::Number => "1",
            FieldKind::Boolean => "true",
        };
        format!("<{0}>{value}</{0}>", field.name)
    });
    format!("<{tag}>{}</{tag}>", fields.collect::<String>())
}
