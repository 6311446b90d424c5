//! The bundled tokenizer and its making.

use std::path::Path;

use proptest::prelude::*;
use trestle::data::{DataError, SPECIAL_TOKENS, Tokenizer, train_tokenizer};

const ASSETS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/assets");

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn every_text_comes_back(text in any::<String>()) {
        let tokenizer = Tokenizer::bundled().unwrap();
        let ids = tokenizer.encode(&text).unwrap();
        prop_assert!(ids.iter().all(|&id| (id as usize) < tokenizer.vocab_size()));
        prop_assert_eq!(tokenizer.decode(&ids).unwrap(), text);
    }
}

#[test]
fn awkward_texts_come_back() {
    let tokenizer = Tokenizer::bundled().unwrap();
    for text in [
        "",
        " ",
        "\n\n\n  \t\r\n",
        "e\u{301} is not \u{e9}, and \u{1e9b}\u{323} stays",
        "\u{0}\u{1}\u{7f}\u{80}\u{ffff}\u{10ffff}",
        "\u{1f469}\u{200d}\u{1f680} \u{feff}\u{202e}abc",
        "don't WON'T 1234567890 <|im_start|>user<|im_end|>",
        "\u{4e2d}\u{6587}\u{ff0c}\u{0939}\u{093f}\u{0928}\u{094d}\u{0926}\u{0940}",
    ] {
        let ids = tokenizer.encode(text).unwrap();
        assert_eq!(tokenizer.decode(&ids).unwrap(), text);
    }
}

#[test]
fn the_bundled_tokenizer_is_what_training_makes_of_the_bundled_text() {
    let text = Path::new(ASSETS).join("text/jargon.txt");
    let made = train_tokenizer(&[text], 4096).unwrap();
    let bundled = std::fs::read_to_string(Path::new(ASSETS).join("tokenizer.json")).unwrap();
    assert!(made == bundled, "run assets/prepare");

    let tokenizer = Tokenizer::bundled().unwrap();
    assert_eq!(tokenizer.vocab_size(), 4096);
    assert_eq!(tokenizer.eos(), 0);
    for (id, special) in SPECIAL_TOKENS.iter().enumerate() {
        assert_eq!(tokenizer.encode(special).unwrap(), [id as u32]);
    }
}

#[test]
fn training_twice_gives_equal_bytes_and_respects_the_size() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("t.txt");
    // Many pairs with equal counts, where an order that hangs on hashing would show.
    let text: Vec<String> = (0..400)
        .map(|i| format!("w{} x{}", i % 20, i % 20))
        .collect();
    std::fs::write(&file, text.join(" ")).unwrap();
    let files = [file];
    let first = train_tokenizer(&files, 300).unwrap();
    for _ in 0..3 {
        assert_eq!(train_tokenizer(&files, 300).unwrap(), first);
    }
    let out = folder.path().join("tokenizer.json");
    std::fs::write(&out, first).unwrap();
    let tokenizer = Tokenizer::from_file(&out).unwrap();
    assert!(tokenizer.vocab_size() > 259 && tokenizer.vocab_size() <= 300);

    match train_tokenizer(&files, 258) {
        Err(DataError::VocabularyBelowBytes {
            asked: 258,
            least: 259,
        }) => {}
        other => panic!("{other:?}"),
    }
}

/// A word-level tokenizer without any special token that we know.
const OTHER: &str = r#"{"version":"1.0","truncation":{"direction":"Right","max_length":2,"strategy":"LongestFirst","stride":0},
"padding":null,"added_tokens":[],"normalizer":null,"pre_tokenizer":{"type":"Whitespace"},"post_processor":null,"decoder":null,
"model":{"type":"WordLevel","vocab":{"[UNK]":0,"a":1,"b":2,"[STOP]":9},"unk_token":"[UNK]"}}"#;

#[test]
fn another_tokenizer_may_name_its_end_in_its_config_and_is_not_truncated() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tokenizer.json");
    std::fs::write(&file, OTHER).unwrap();
    let error = Tokenizer::from_file(&file).unwrap_err();
    assert!(matches!(error, DataError::NoEndOfText { .. }), "{error}");
    assert!(error.hint().unwrap().contains("tokenizer_config.json"));

    std::fs::write(
        folder.path().join("tokenizer_config.json"),
        r#"{"eos_token": {"content": "[STOP]"}}"#,
    )
    .unwrap();
    let tokenizer = Tokenizer::from_file(folder.path()).unwrap();
    assert_eq!(tokenizer.eos(), 9);
    assert_eq!(tokenizer.vocab_size(), 10, "ids may have gaps");
    assert_eq!(tokenizer.encode("a b a b").unwrap(), [1, 2, 1, 2]);
}
