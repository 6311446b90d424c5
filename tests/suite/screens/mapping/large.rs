//! The largest model: every expert in the list, opened and searched.

use trestle::app::mapping::{Content, Model, Side};
use trestle::spec::{ExpertStyle, find};

use super::{bench, label, labels, open, published};

#[test]
fn the_largest_model_has_its_whole_expert_list_and_shows_it_in_a_few_rows() {
    let mut bench = bench(120, 36);
    open(&mut bench, published("397b-a17b"));
    let model = bench.state.mapping.model().unwrap().clone();
    assert!(
        model.table.entries().len() > 60_000,
        "{}",
        model.table.entries().len()
    );
    assert_eq!(
        model.tree(Side::HuggingFace).names.len(),
        model.huggingface.tensors.len()
    );
    assert!(bench.state.mapping.len() < 40);
    bench.press(
        "/ l a y e r s . 5 . m l p . e x p e r t s . l i n e a r _ f c 1 . w e i g h t 3 enter esc",
    );
    assert!(label(&bench).starts_with("weight3"), "{}", label(&bench));
    insta::assert_snapshot!("mapping_397b_120x36", bench.text());
    // The expert stands by itself, the other 510 behind the first one.
    let experts = labels(&bench);
    let experts = experts.iter().filter(|l| l.starts_with("weight"));
    assert_eq!(experts.count(), 3, "{:?}", labels(&bench));
    assert!(bench.state.mapping.len() < 60);
    assert!(bench.text().contains("510 same as"), "{}", bench.text());
}

#[test]
fn one_by_one_experts_of_hugging_face_collapse_too() {
    let entry = find("397b-a17b").unwrap();
    let model = Model::new("m".into(), &entry.text_only(), ExpertStyle::PER_EXPERT);
    assert!(model.huggingface.tensors.len() > 90_000);
    let mut bench = bench(120, 36);
    open(&mut bench, model);
    bench.press("tab / l a y e r s . 0 . m l p . e x p e r t s . 0 . u p enter esc");
    assert_eq!(label(&bench), "up_proj.weight");
    assert!(
        labels(&bench).contains(&"1-511".to_owned()),
        "{:?}",
        labels(&bench)
    );
    let is_tensor = |row: trestle::app::mapping::Row| matches!(row.content, Content::Tensor(_));
    assert!(is_tensor(bench.state.mapping.present().unwrap()));
}
