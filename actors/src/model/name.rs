//! A model's name: what its file is called, without what every file is called alike.
//!
//! `SmolLM2-135M-Instruct.Q4_1.gguf` is `smollm2-135m-instruct`. Names are file names too (`NAME.gguf`), so that
//! they hold nothing that a file system or a command line reads as more than a name.

/// Characters of a name; longer ones are cut.
const NAME_CHARS_MAX: usize = 80;

/// The name of the model in a file of this name.
pub(super) fn of_file(file: &str) -> String {
    let stem = strip_suffix_ignoring_case(file, ".gguf").unwrap_or(file);
    // `Q4_K_M` holds the separators of names itself: cut where the label begins.
    let separators = stem.char_indices().filter(|(at, c)| *at > 0 && ".-_ ".contains(*c));
    match separators.map(|(at, _)| at).find(|&at| is_quantisation(&stem[at + 1..])) {
        Some(at) => clean(&stem[..at]),
        None => clean(stem),
    }
}

/// The first of `name`, `name-LABEL`, `name-LABEL-2`, ... that isn't taken.
pub(super) fn free(name: &str, label: &str, taken: impl Fn(&str) -> bool) -> String {
    if !taken(name) {
        return name.to_owned();
    }
    let labelled = clean(&format!("{name}-{label}"));
    let numbered = (2_u32..).map(|n| format!("{labelled}-{n}"));
    std::iter::once(labelled.clone()).chain(numbered).find(|name| !taken(name)).expect("some number is free")
}

/// Lower case, `a-z0-9._-`, no dot or dash in front, at least one character.
pub(super) fn clean(text: &str) -> String {
    let mut name = String::new();
    for c in text.chars().flat_map(char::to_lowercase) {
        let c = if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' };
        let leads = name.is_empty() && !c.is_ascii_alphanumeric();
        let doubles = c == '-' && name.ends_with('-');
        if !leads && !doubles && name.len() < NAME_CHARS_MAX {
            name.push(c);
        }
    }
    let name = name.trim_end_matches(['.', '-', '_']);
    if name.is_empty() { "model".to_owned() } else { name.to_owned() }
}

/// `Q4_1`, `Q4_K_M`, `IQ2_XXS`, `F16`, `BF16`, ...
fn is_quantisation(text: &str) -> bool {
    let text = text.to_ascii_uppercase();
    let digit_behind =
        |prefix| text.strip_prefix(prefix).is_some_and(|rest: &str| rest.starts_with(|c: char| c.is_ascii_digit()));
    let labelled = digit_behind("Q") || digit_behind("IQ");
    let plain = matches!(text.as_str(), "F16" | "F32" | "BF16" | "FP16");
    plain || (labelled && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'))
}

fn strip_suffix_ignoring_case<'a>(text: &'a str, suffix: &str) -> Option<&'a str> {
    let at = text.len().checked_sub(suffix.len())?;
    text.get(at..).filter(|end| end.eq_ignore_ascii_case(suffix)).map(|_| &text[..at])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_quantisation_is_no_part_of_a_name() {
        for (file, name) in [
            ("SmolLM2-135M-Instruct.Q4_1.gguf", "smollm2-135m-instruct"),
            ("qwen2.5-0.5b-instruct-q4_k_m.gguf", "qwen2.5-0.5b-instruct"),
            ("Llama 3.2 1B (Q8_0).GGUF", "llama-3.2-1b-q8_0"),
            ("tiny-f16.gguf", "tiny"),
            ("q4_0.gguf", "q4_0"),
            ("../../etc/passwd", "etc-passwd"),
            ("...", "model"),
        ] {
            assert_eq!(of_file(file), name, "{file}");
        }
    }

    #[test]
    fn a_second_file_of_a_name_is_told_apart_by_its_quantisation() {
        assert_eq!(free("m", "Q8_0", |_| false), "m");
        assert_eq!(free("m", "Q8_0", |name| name == "m"), "m-q8_0");
        assert_eq!(free("m", "Q8_0", |name| name == "m" || name == "m-q8_0"), "m-q8_0-2");
    }

    proptest! {
        #[test]
        fn any_file_gives_a_name_that_is_only_a_name(file in ".{0,120}") {
            let name = of_file(&file);
            prop_assert!(!name.is_empty() && name.len() <= NAME_CHARS_MAX);
            prop_assert!(name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c)));
            prop_assert!(!name.starts_with(['.', '-']));
        }
    }
}
