//! Text and settings that cannot be used: what is said, and what is suggested.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use trestle::data::{DataError, Split, Tokenizer};
use trestle::recipe::{DataSource, Packing};

use super::{Bench, documents};

fn error(bench: &Bench) -> DataError {
    bench.open(Split::Train).map(|_| ()).unwrap_err()
}

#[test]
fn a_byte_that_is_not_utf8_is_named_by_file_line_and_offset() {
    let mut bench = Bench::new(&[]);
    bench.write("a.txt", "fine\n");
    let bad = bench.write("b.txt", b"one\ntwo\nthree \xe9t\xe9\n");
    bench.text_glob("*.txt");
    let error = error(&bench);
    assert_eq!(
        error.to_string(),
        format!("{}:3: byte 14 of the file is not UTF-8", bad.display())
    );
    assert!(
        error.hint().unwrap().contains("iconv"),
        "{:?}",
        error.hint()
    );
    assert!(bench.caches().is_empty(), "nothing half-made is left");
}

#[test]
fn a_glob_without_files_and_one_that_is_none_are_told_apart() {
    let mut bench = Bench::new(&[]);
    bench.text_glob("none/*.txt");
    assert!(error(&bench).to_string().ends_with("none/*.txt"));
    bench.text_glob("a***b");
    assert!(matches!(error(&bench), DataError::Glob { .. }));
}

#[test]
fn an_empty_corpus_and_an_empty_split_are_errors() {
    let mut bench = Bench::new(&[]);
    bench.write("blank.txt", "\n \n\t\n");
    bench.text_glob("*.txt");
    assert!(matches!(
        error(&bench),
        DataError::Empty {
            files: 1,
            documents: 0
        }
    ));
    bench.recipe.data.sources.clear();
    assert!(matches!(error(&bench), DataError::Empty { files: 0, .. }));

    bench.write("blank.txt", "one text\n");
    bench.text_glob("*.txt");
    bench.recipe.data.validation_fraction = 0.0;
    assert!(bench.open(Split::Train).is_ok());
    let error = bench.open(Split::Validation).map(|_| ()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "no document is left for validation: 1 documents, validation_fraction = 0"
    );
    assert!(error.hint().unwrap().contains("validation_fraction"));
}

#[test]
fn json_lines_say_where_they_are_wrong() {
    let mut bench = Bench::new(&[]);
    let file = bench.write("d.jsonl", "{\"text\": \"a\"}\n{\"text\": \"b\"\n");
    bench.recipe.data.sources = vec![DataSource::Jsonl {
        glob: "*.jsonl".into(),
        field: "text".into(),
    }];
    let message = error(&bench).to_string();
    assert!(
        message.starts_with(&format!("{}:2:", file.display())),
        "{message}"
    );
    for (line, found) in [
        ("[1]", "not a JSON object"),
        (
            "{\"text\": [\"b\"]}",
            "a value there that is no string: an array",
        ),
        ("{\"body\": \"b\"}", "the line has `body`"),
        ("{}", "the line has no field"),
    ] {
        bench.write("d.jsonl", format!("{{\"text\": \"a\"}}\n\n{line}\n"));
        let message = error(&bench).to_string();
        assert!(message.contains(":3"), "{message}");
        assert!(message.contains(found), "{message}");
    }
}

#[test]
fn a_model_with_fewer_rows_than_ids_is_refused_with_both_numbers() {
    let mut bench = Bench::small(Packing::Packed, &documents(5));
    bench.recipe.model.config.vocab_size = 4000;
    let error = error(&bench);
    assert_eq!(
        error.to_string(),
        "the model has 4000 embedding rows, the tokenizer 4096 ids"
    );
    assert!(error.hint().unwrap().contains("4096"));
}

#[test]
fn a_tokenizer_that_is_missing_or_none_is_named() {
    let mut bench = Bench::small(Packing::Packed, &documents(5));
    bench.recipe.data.tokenizer = Some("missing.json".into());
    let missing = error(&bench);
    assert!(matches!(missing, DataError::Io { .. }), "{missing}");
    assert!(missing.to_string().contains("missing.json"));
    let path = bench.write("broken.json", "{\"version\": \"1.0\"");
    bench.recipe.data.tokenizer = Some("broken.json".into());
    let broken = error(&bench);
    assert!(broken.to_string().contains(&path.display().to_string()));
    assert!(broken.hint().unwrap().contains("tokenizer.json"));
    assert!(Tokenizer::from_file(&path).is_err());
}

#[test]
fn a_cache_folder_that_cannot_be_made_is_named_with_a_hint() {
    let mut bench = Bench::small(Packing::Packed, &documents(5));
    bench.write("file", "in the way");
    bench.recipe.data.cache = Some("file/cache".into());
    let in_the_way = error(&bench);
    assert!(
        in_the_way.to_string().contains("file/cache"),
        "{in_the_way}"
    );
    assert!(in_the_way.hint().unwrap().contains("data.cache"));

    let folder = bench.path().join("read-only");
    fs::create_dir(&folder).unwrap();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o555)).unwrap();
    bench.recipe.data.cache = Some("read-only".into());
    if fs::write(folder.join("probe"), "").is_ok() {
        eprintln!("SKIPPED: this user writes into read-only folders");
        return;
    }
    let refused = error(&bench);
    assert!(refused.to_string().contains("read-only"), "{refused}");
    assert!(refused.hint().unwrap().contains("data.cache"));
}
