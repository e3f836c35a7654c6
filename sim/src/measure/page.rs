//! A page of results whose parts are written by commands: each part stands between two markers that bear its name.

/// The page with this part replaced, or put at its end.
pub fn with_part(page: &str, name: &str, body: &str) -> String {
    let (begin, end) = (format!("<!-- {name}: written by its command -->"), format!("<!-- end of {name} -->"));
    let part = format!("{begin}\n{}\n{end}", body.trim());
    let old = page.find(&begin).zip(page.find(&end)).filter(|(from, to)| from < to);
    match old {
        Some((from, to)) => format!("{}{part}{}", &page[..from], &page[to + end.len()..]),
        None => format!("{}\n\n{part}\n", page.trim_end()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_put_at_the_end_once_and_replaced_from_then_on() {
        let page = with_part("# Results\n", "one", "1");
        let page = with_part(&page, "two", "2");
        let again = with_part(&page, "one", "3");
        assert_eq!(again, page.replace("\n1\n", "\n3\n"));
        assert!(again.starts_with("# Results\n") && again.ends_with("\n2\n<!-- end of two -->\n"));
    }
}
