//! The patterns of rules: `*` stands for any text, `?` for any one character, all else for itself, from beginning to end.

/// Whether a text is of this pattern. Takes at most as many steps as both lengths multiplied.
pub(super) fn fits(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    let (mut p, mut t) = (0, 0);
    // The last star, and up to where it was taken to reach.
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(c) if *c == '?' || *c == text[t] => (p, t) = (p + 1, t + 1),
            _ => match star {
                Some((at, reach)) => {
                    star = Some((at, reach + 1));
                    (p, t) = (at + 1, reach + 1);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_pattern_is_for_the_whole_text() {
        let check = |pattern: &str, yes: &[&str], no: &[&str]| {
            yes.iter().for_each(|text| assert!(fits(pattern, text), "{pattern} {text}"));
            no.iter().for_each(|text| assert!(!fits(pattern, text), "{pattern} {text}"));
        };
        check("*", &["", "a", "a\nb"], &[]);
        check("", &[""], &["a"]);
        check("?*", &["a", "ab", "é"], &[""]);
        check("rm *", &["rm -r x", "rm "], &["rm", "arm x", "RM x"]);
        check("*/etc/*", &["cat /etc/passwd", "/etc/"], &["/etc"]);
        check("a*b*c", &["abc", "axbxc", "abbcc"], &["ab", "acb", "abcd"]);
        check("run_?ask", &["run_task"], &["run_ask", "run_ttask"]);
        check("**", &["", "x"], &[]);
    }

    #[test]
    fn a_hostile_pattern_ends() {
        assert!(!fits(&"*a".repeat(120), &("a".repeat(30_000) + "b")));
    }

    proptest! {
        #[test]
        fn a_text_is_of_the_pattern_that_it_is_a_piece_of(before in "[a-c*?]{0,5}", text in "[a-c]{0,5}", after in "[a-c]{0,5}") {
            let pattern = format!("*{text}*");
            let whole = format!("{before}{text}{after}");
            prop_assert!(fits(&pattern, &whole));
            prop_assert_eq!(fits(&text, &after), text == after);
        }
    }
}
