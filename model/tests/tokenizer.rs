//! The tokenizer against ids that the Python reference computed.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::PathBuf;

use acdclip_model::clip::tokenizer::Tokenizer;
use proptest::prelude::*;

#[derive(serde::Deserialize)]
struct Case {
    text: String,
    ids: Vec<u32>,
}

fn check(json: &str) {
    let cases: Vec<Case> = serde_json::from_str(json).unwrap();
    assert!(!cases.is_empty());
    let wrong: Vec<String> = cases
        .iter()
        .filter_map(|Case { text, ids }| {
            let mut wanted = ids.clone();
            wanted.resize(77, 0);
            let found = Tokenizer::clip().encode(text, 77);
            (found != wanted).then(|| format!("{text:?}\n wanted {wanted:?}\n found  {found:?}"))
        })
        .collect();
    assert!(
        wrong.is_empty(),
        "{} of {}:\n{}",
        wrong.len(),
        cases.len(),
        wrong.join("\n")
    );
}

#[test]
fn equals_the_golden_ids() {
    let shared = std::env::var_os("ACDCLIP_SHARED").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared"),
        PathBuf::from,
    );
    let path = shared.join("golden/tokenizer.json");
    match std::fs::read_to_string(&path) {
        Ok(json) => check(&json),
        Err(e) => println!("skipped: golden tokenizer ids ({}: {e})", path.display()),
    }
}

#[test]
fn equals_the_reference_on_what_people_paste() {
    check(include_str!("fixtures/tokenizer.json"));
}

#[test]
fn a_spelt_out_mark_is_that_mark() {
    let ids = Tokenizer::clip().encode("<|StartOfText|> <|endoftext|>rail", 8);
    assert_eq!(ids, [49406, 49406, 49407, 6879, 49407, 0, 0, 0]);
}

#[test]
fn a_context_of_any_length_is_filled_and_keeps_the_end() {
    let tokenizer = Tokenizer::clip();
    let encode = |length| tokenizer.encode("rail surface", length);
    assert!(encode(0).is_empty());
    assert_eq!(encode(1), [49407]);
    assert_eq!(encode(2), [49406, 49407]);
    assert_eq!(encode(3), [49406, 6879, 49407]);
    assert_eq!(encode(4), [49406, 6879, 7744, 49407]);
    assert_eq!(encode(6), [49406, 6879, 7744, 49407, 0, 0]);
}

#[test]
fn a_huge_text_is_cut() {
    let ids = Tokenizer::clip().encode(&"x&amp;".repeat(1 << 20), 77);
    assert_eq!((ids.len(), ids[76]), (77, 49407));
}

proptest! {
    #[test]
    fn any_text_has_a_start_an_end_and_known_ids(text in any::<String>(), length in 2_usize..100) {
        let ids = Tokenizer::clip().encode(&text, length);
        prop_assert_eq!(ids.len(), length);
        prop_assert_eq!(ids[0], Tokenizer::START);
        let end = ids.iter().rposition(|id| *id != 0);
        prop_assert_eq!(end.map(|end| ids[end]), Some(Tokenizer::END));
        prop_assert!(ids.iter().all(|id| *id <= Tokenizer::END));
    }
}
