//! The Layout screen on disk: what is written, exported, found.

use std::fs;

use crate::session::{Place, Session, wait_until};

const DEMO: &str = include_str!("../../recipes/demo.toml");

#[test]
fn a_layout_is_written_into_the_recipe_and_drawn_to_a_file() {
    let place = Place::new(&[("demo.toml", DEMO)]);
    let mut session = Session::start(&place);
    session.wait_for("✓ valid r1");
    session.type_text("3");
    session.wait_for("Rank grid");
    session.type_text("u");
    session.wait_for("scratch");
    session.type_text("W");
    session.wait_gone("scratch");
    let text = fs::read_to_string(place.path().join("recipes/demo.toml")).unwrap();
    assert_eq!(text, format!("{DEMO}\n[recompute]\nmode = \"full\"\n"));
    session.type_text("x\r");
    let path = place.path().join("layout-demo.svg");
    let is_whole = || fs::read_to_string(&path).is_ok_and(|text| text.ends_with("</svg>\n"));
    wait_until("the picture", is_whole);
    session.wait_for("layout-demo.svg");
    session.type_text("f");
    session.wait_for("tried");
    session.quit();
}

#[test]
fn a_file_that_changes_meanwhile_loses_nothing() {
    let place = Place::new(&[("demo.toml", DEMO)]);
    let mut session = Session::start(&place);
    session.wait_for("✓ valid r1");
    session.type_text("3");
    session.wait_for("Rank grid");
    session.type_text("u");
    session.wait_for("scratch");
    // Another program writes, and the key comes before the workbench has read it.
    let other = format!("{DEMO}\n# a note of somebody else\n");
    place.save("demo.toml", &other);
    session.type_text("W");
    let path = place.path().join("recipes/demo.toml");
    // Either the file is refused and written at the next try, or it was read already.
    session.wait_until("an answer to W", |screen| {
        screen.contains("in the meantime") || !screen.contains("scratch")
    });
    for _ in 0..20 {
        if fs::read_to_string(&path)
            .unwrap()
            .contains("mode = \"full\"")
        {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(300));
        session.type_text("W");
    }
    session.wait_gone("scratch");
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains("# a note of somebody else"), "{text}");
    assert!(text.contains("mode = \"full\""), "{text}");
    session.quit();
}
