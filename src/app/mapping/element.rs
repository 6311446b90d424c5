//! An element of a tensor, as a user types it, and its way through all names.

use crate::app::Tone;
use crate::app::dialog::Note;
use crate::mapping::Trace;

/// Reads `name[17,5]`, or an index alone in the tensor `present`.
pub fn read(text: &str, present: &str) -> Result<(String, Vec<usize>), String> {
    let text = text.trim();
    let (name, index) = match text.split_once('[') {
        Some((name, rest)) => match rest.strip_suffix(']') {
            Some(index) => (name.trim(), index),
            None => return Err(format!("`{text}` has a [ without ]")),
        },
        None => ("", text),
    };
    let name = if name.is_empty() { present } else { name };
    let number = |part: &str| {
        let part = part.trim();
        let index = part.parse().ok();
        index.ok_or_else(|| format!("`{part}` is no index; an element is NAME[ROW,COLUMN]"))
    };
    let index = index
        .split(',')
        .map(number)
        .collect::<Result<_, String>>()?;
    Ok((name.to_owned(), index))
}

/// A trace as lines to read.
pub fn lines(trace: &Trace) -> Vec<Note> {
    let mut lines = vec![
        Note::new(Tone::Neutral, format!(" hf          {}", trace.huggingface)),
        Note::new(Tone::Neutral, format!(" megatron    {}", trace.megatron)),
        Note::new(Tone::Neutral, format!(" torch_dist  {}", trace.torch_dist)),
        Note::new(Tone::Neutral, ""),
    ];
    for held in &trace.ranks {
        let ranks: Vec<usize> = held.ranks.clone();
        lines.push(Note::new(
            Tone::Good,
            format!(
                " {}  global ranks {}",
                held.coordinates,
                super::ranges(&ranks)
            ),
        ));
        lines.push(Note::new(Tone::Neutral, format!("   {}", held.at)));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_element_has_a_name_and_an_index() {
        assert_eq!(read("a.b[17, 5]", "x"), Ok(("a.b".into(), vec![17, 5])));
        assert_eq!(read("[3]", "x"), Ok(("x".into(), vec![3])));
        assert_eq!(read("3,4", "x"), Ok(("x".into(), vec![3, 4])));
        assert!(read("a[3", "x").is_err());
        assert!(read("a[b]", "x").is_err());
        assert!(read("", "x").is_err());
    }
}
