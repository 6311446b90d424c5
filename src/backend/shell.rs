//! Words for a POSIX shell and for `#SBATCH` lines.

/// `text` as one word of a shell: in single quotes, whatever stands in it.
pub fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// `text` as it is if no shell could read it otherwise, else in quotes.
pub fn word(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./:=+@%".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text.to_owned()
    } else {
        quote(text)
    }
}

/// `text` in a comment: on one line, whatever it holds.
pub fn comment(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

/// `text` as the value of an option in an `#SBATCH` line, which knows double quotes and backslashes but no variables.
pub fn sbatch_value(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./,:=+@%".contains(c);
    if text.chars().all(plain) {
        return text.to_owned();
    }
    let escaped = comment(text).replace('\\', r"\\").replace('"', "\\\"");
    format!("\"{escaped}\"")
}

/// A path as an `#SBATCH` file name, where `%j` would be the job's number.
pub fn sbatch_path(path: &str) -> String {
    path.replace('%', "%%")
}

/// Whether a shell takes `name` for a variable's name.
pub fn is_variable(name: &str) -> bool {
    let mut characters = name.chars();
    let first = characters.next();
    first.is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
        && characters.all(|c| c.is_ascii_alphanumeric() || c == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_reads_back_what_was_quoted() {
        for text in ["", "a b", "it's", "$HOME `x` \\ \"", "-n\nx", "ünï", "'''"] {
            let output = std::process::Command::new("sh")
                .arg("-c")
                .arg(format!("printf %s {}", word(text)))
                .output()
                .expect("every system we run on has sh");
            assert_eq!(String::from_utf8_lossy(&output.stdout), text);
        }
    }

    #[test]
    fn names_of_variables_are_told_from_others() {
        assert!(is_variable("HF_TOKEN") && is_variable("_x1"));
        assert!(!is_variable("") && !is_variable("1A") && !is_variable("A=B") && !is_variable("é"));
    }
}
