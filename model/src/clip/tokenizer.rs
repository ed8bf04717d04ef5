//! CLIP's byte-pair encoding, token for token that of OpenAI's reference: from a sentence to the ids that the text tower reads.
//!
//! The vocabulary is the 256 bytes, the same bytes at the end of a word, one token per merge, and the two marks. A token's id says all
//! about it: merge number `n` makes token `512 + n`, so of two pairs that may be merged the one with the smaller id goes first.

use std::collections::HashMap;
use std::sync::LazyLock;

use regex::Regex;

use super::clean::{clean, pattern};

/// The merges, best first: two little-endian 16-bit ids each. `assets/README.md` says where they are from.
static MERGES: &[u8] = include_bytes!("../../assets/clip_merges.bin");

/// First id of the bytes that end a word.
const WORD_END: u16 = 256;
/// Id that the first merge makes.
const FIRST_MERGE: u16 = 512;

const START_TEXT: &str = "<|startoftext|>";
const END_TEXT: &str = "<|endoftext|>";

/// What the reference takes for a word. Its pattern ignores case throughout, to which Python and this crate give another sense where
/// classes are concerned; only the Greek iota below, U+0345, is touched: a mark that folds to a letter, and there part of no word.
const WORD: &str = r"(?i:<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d)|\p{L}+|\p{N}|[^\s\p{L}\p{N}\x{345}]+";

/// CLIP's tokenizer. There is one: [`Tokenizer::clip`].
#[derive(Debug)]
pub struct Tokenizer {
    /// The token that a pair of tokens makes.
    merges: HashMap<(u16, u16), u16>,
    /// The token of each byte inside a word.
    bytes: [u16; 256],
    word: Regex,
}

impl Tokenizer {
    /// Id that every sentence starts with.
    pub const START: u32 = 49_406;
    /// Id that every sentence ends with; the text tower's features are taken at its first occurrence.
    pub const END: u32 = 49_407;

    /// The tokenizer of every published CLIP, made at the first call.
    pub fn clip() -> &'static Self {
        static CLIP: LazyLock<Tokenizer> = LazyLock::new(Tokenizer::load);
        &CLIP
    }

    fn load() -> Self {
        let pairs = MERGES.chunks_exact(4).map(|pair| {
            (
                u16::from_le_bytes([pair[0], pair[1]]),
                u16::from_le_bytes([pair[2], pair[3]]),
            )
        });
        Self {
            merges: pairs.zip(FIRST_MERGE..).collect(),
            bytes: byte_ids(),
            word: pattern(WORD),
        }
    }

    /// The `context_length` ids of `text`: [`START`](Self::START), its tokens, [`END`](Self::END), zeros.
    ///
    /// A text that is too long is cut, and the last id is then [`END`](Self::END) all the same. Any text is accepted; one that spells
    /// out a mark, as in `<|endoftext|>`, gets that mark's id, as in the reference.
    pub fn encode(&self, text: &str, context_length: usize) -> Vec<u32> {
        let mut ids = vec![Self::START];
        let text = clean(text);
        for word in self.word.find_iter(&text) {
            if ids.len() >= context_length {
                break;
            }
            match word.as_str() {
                START_TEXT => ids.push(Self::START),
                END_TEXT => ids.push(Self::END),
                word => ids.extend(self.merge(word).into_iter().map(u32::from)),
            }
        }
        ids.push(Self::END);
        if ids.len() > context_length {
            ids.truncate(context_length);
            if let Some(last) = ids.last_mut() {
                *last = Self::END;
            }
        }
        ids.resize(context_length, 0);
        ids
    }

    /// The tokens of one word: its bytes, merged pair by pair in the order of the table.
    fn merge(&self, word: &str) -> Vec<u16> {
        let mut ids: Vec<u16> = word.bytes().map(|b| self.bytes[usize::from(b)]).collect();
        if let Some(last) = ids.last_mut() {
            *last += WORD_END;
        }
        while let Some(best) = ids.windows(2).filter_map(|pair| self.merged(pair)).min() {
            let mut kept = 0;
            let mut next = 0;
            while next < ids.len() {
                let pair = &ids[next..ids.len().min(next + 2)];
                let (id, step) = if self.merged(pair) == Some(best) {
                    (best, 2)
                } else {
                    (ids[next], 1)
                };
                ids[kept] = id;
                kept += 1;
                next += step;
            }
            ids.truncate(kept);
        }
        ids
    }

    fn merged(&self, pair: &[u16]) -> Option<u16> {
        match *pair {
            [left, right] => self.merges.get(&(left, right)).copied(),
            _ => None,
        }
    }
}

/// The reference numbers the bytes that Latin-1 can show first, then the others.
fn byte_ids() -> [u16; 256] {
    let is_shown = |b: &u8| matches!(b, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    let shown = (0..=u8::MAX).filter(is_shown);
    let others = (0..=u8::MAX).filter(|b| !is_shown(b));
    let mut ids = [0; 256];
    for (id, byte) in (0..).zip(shown.chain(others)) {
        ids[usize::from(byte)] = id;
    }
    ids
}
