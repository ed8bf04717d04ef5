//! What CLIP's reference code does to a text before it is tokenized, so that the same sentence gives the same tokens.
//!
//! The reference runs `ftfy.fix_text`, unescapes HTML twice, collapses white space and lowercases. Of ftfy (6.3, default settings) this
//! has what a prompt may contain: HTML references, ligatures, full and half width forms, curly quotes, line breaks, terminal escapes,
//! control characters and composition (NFC). It has not the repair of text that was decoded with the wrong encoding ("cafÃ©"), nor
//! ftfy's reading of C1 control characters as Windows-1252: such a prompt is tokenized as it stands.

use std::borrow::Cow;
use std::iter::once;
use std::sync::LazyLock;

use regex::{Captures, Regex};
use unicode_normalization::UnicodeNormalization;

/// Longest text looked at, in characters. Hundreds for each token of CLIP's context; keeps a hostile one from taking minutes.
const MAX_CHARS: usize = 1 << 14;

/// How often a line is fixed again while that changes it. Only HTML escaped over and over needs more than three.
const MAX_PASSES: usize = 16;

/// `text` as the tokenizer's word pattern wants it: repaired, unescaped, on one line, with single spaces, in lower case.
pub(super) fn clean(text: &str) -> String {
    let text = match text.char_indices().nth(MAX_CHARS) {
        Some((end, _)) => &text[..end],
        None => text,
    };
    let fixed = fix_text(text);
    let unescaped = htmlize::unescape(htmlize::unescape(fixed));
    let words: Vec<&str> = unescaped.split_whitespace().collect();
    words.join(" ").to_lowercase()
}

/// Fixes line by line. As in ftfy, a `<` says that what follows is HTML on purpose, and its references stay for the caller.
fn fix_text(text: &str) -> String {
    let mut is_html = false;
    let mut fixed = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        is_html |= line.contains('<');
        fixed.push_str(&fix_line(line, is_html));
    }
    fixed
}

fn fix_line(line: &str, is_html: bool) -> String {
    let mut line = line.to_owned();
    for _ in 0..MAX_PASSES {
        let fixed = fix_once(&line, is_html);
        if fixed == line {
            break;
        }
        line = fixed;
    }
    line
}

fn fix_once(line: &str, is_html: bool) -> String {
    let mut line = if is_html {
        Cow::Borrowed(line)
    } else {
        unescape_closed(line)
    };
    if !line.is_ascii() {
        line = Cow::Owned(line.chars().fold(String::new(), push_plain));
    }
    let line = line
        .replace("\r\n", "\n")
        .replace(['\r', '\u{2028}', '\u{2029}'], "\n");
    let line = TERMINAL_ESCAPE.replace_all(&line, "");
    line.chars()
        .filter(|c| !is_stray_control(*c))
        .nfc()
        .collect()
}

/// References that end in a semicolon; those without one are too often an innocent `&`.
fn unescape_closed(line: &str) -> Cow<'_, str> {
    REFERENCE.replace_all(line, |reference: &Captures<'_>| {
        let written = &reference[0];
        let meant = htmlize::unescape(written);
        if !meant.contains(';') {
            return meant.into_owned();
        }
        // Legacy databases shout their references too: `&EACUTE;`. Only one whose capitals mean nothing else is lowered.
        let lower = written.to_lowercase();
        let meant = htmlize::unescape(&lower);
        if written == written.to_uppercase() && !meant.contains(';') {
            return meant.to_uppercase();
        }
        written.to_owned()
    })
}

/// Appends what a ligature, a full or half width form or a curly quote stands for; anything else as it is.
fn push_plain(mut plain: String, c: char) -> String {
    match c {
        '\u{2bc}' | '\u{2018}'..='\u{201b}' => plain.push('\''),
        '\u{201c}'..='\u{201f}' => plain.push('"'),
        // Its compatibility form is "st"; ftfy keeps the long s.
        'ﬅ' => plain.push_str("ſt"),
        'Ĳ'
        | 'ĳ'
        | 'ŉ'
        | 'Ǆ'..='ǌ'
        | 'Ǳ'..='ǳ'
        | 'ﬀ'..='ﬄ'
        | 'ﬆ'
        | '\u{3000}'
        | '\u{ff01}'..='\u{ffef}' => {
            plain.extend(once(c).nfkc());
        }
        c => plain.push(c),
    }
    plain
}

/// Control characters that draw nothing. Joiners and directional marks are left: they change how a script looks.
fn is_stray_control(c: char) -> bool {
    matches!(
        c,
        '\0'..='\u{8}' | '\u{b}' | '\u{e}'..='\u{1f}' | '\u{7f}' | '\u{206a}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffc}'
    )
}

static REFERENCE: LazyLock<Regex> = LazyLock::new(|| pattern("&#?[0-9A-Za-z]{1,24};"));
static TERMINAL_ESCAPE: LazyLock<Regex> = LazyLock::new(|| pattern("\x1b\\[[0-9;]*[a-zA-Z]"));

/// A pattern of this crate's own.
#[expect(
    clippy::expect_used,
    reason = "the patterns are constants, and every test of the tokenizer compiles them"
)]
pub(super) fn pattern(pattern: &str) -> Regex {
    Regex::new(pattern).expect("a valid pattern")
}
