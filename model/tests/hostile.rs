//! Files that somebody damaged, by accident or on purpose: an error that names the file, never a panic, and never an allocation that the
//! file's own size does not justify.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod unsafe_peak_alloc;
mod weights;

use std::io::{Cursor, Write};
use std::path::Path;

use acdclip_model::bundle::{Bundle, BundleWriter, Provenance, StoragePolicy};
use acdclip_model::import::Import;
use acdclip_model::tensors::TensorFile;
use acdclip_model::text_bank::TextBank;
use acdclip_model::{Config, schema};
use candle_core::{DType, Device, Tensor};
use proptest::prelude::*;
use weights::{golden_config, save, shared, tensors, tiny_config};
use zip::CompressionMethod;
use zip::write::SimpleFileOptions;

/// Everything that opens a file, then every tensor of it read: errors are told, panics are not.
fn read_all(path: &Path) -> Vec<String> {
    let mut said = Vec::new();
    match TensorFile::open(path) {
        Err(e) => said.push(e.to_string()),
        Ok(file) => said.extend(
            file.names()
                .filter_map(|name| Some(file.read(name).err()?.to_string())),
        ),
    }
    if let Err(e) = Bundle::open(path) {
        said.push(e.to_string());
    }
    for (base, adapter) in [(path, None), (path, Some(path))] {
        if let Err(e) = Import::open(base, adapter, tiny_config()) {
            said.push(e.to_string());
        }
    }
    said
}

/// Reads `bytes` as a file, and holds every error against what an error must say.
fn survive(bytes: &[u8]) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hostile-file");
    std::fs::write(&path, bytes).unwrap();
    let mut said = Vec::new();
    let largest = unsafe_peak_alloc::largest_in(|| said = read_all(&path));
    // A value of a pickle takes 64 bytes, in a list that doubles, and one byte can make one.
    assert!(
        largest <= 128 * bytes.len() + (1 << 20),
        "{largest} bytes at once for {}",
        bytes.len()
    );
    for error in &said {
        assert!(error.contains("hostile-file"), "{error}");
        assert!(error.len() < 4096, "{} bytes of error", error.len());
    }
    said
}

/// A file that cannot be opened as tensors at all: why.
fn refused(bytes: &[u8]) -> String {
    survive(bytes);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hostile-file");
    std::fs::write(&path, bytes).unwrap();
    TensorFile::open(&path)
        .err()
        .expect("wanted an error")
        .to_string()
}

fn safetensors(header: &str, data: &[u8]) -> Vec<u8> {
    [
        &(header.len() as u64).to_le_bytes(),
        header.as_bytes(),
        data,
    ]
    .concat()
}

fn archive(files: &[(&str, &[u8])], method: CompressionMethod) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, content) in files {
        zip.start_file(
            *name,
            SimpleFileOptions::default().compression_method(method),
        )
        .unwrap();
        zip.write_all(content).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

/// A torch archive of that pickle and one storage of 16 bytes.
fn torch(pickle: &[u8]) -> Vec<u8> {
    let files: [(&str, &[u8]); 3] = [
        ("a/data.pkl", pickle),
        ("a/byteorder", b"little"),
        ("a/data/0", &[0; 16]),
    ];
    archive(&files, CompressionMethod::Stored)
}

/// A pickle of `{"w": tensor}`; `tail` are the opcodes of offset, shape and strides.
fn tensor_pickle(class: &str, elements: u8, tail: &[u8]) -> Vec<u8> {
    let mut pickle = b"\x80\x02}X\x01\x00\x00\x00wctorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storagectorch\n".to_vec();
    pickle.extend_from_slice(class.as_bytes());
    pickle.extend_from_slice(b"\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK");
    pickle.push(elements);
    pickle.extend_from_slice(b"tQ");
    pickle.extend_from_slice(tail);
    pickle.extend_from_slice(b"\x89NtRs.");
    pickle
}

/// The tiny model as a bundle.
fn tiny_bundle() -> Vec<u8> {
    let config = tiny_config();
    let tensors = tensors(&schema::schema(&config));
    let mut bank = TextBank::default();
    bank.insert(
        "rail",
        Tensor::zeros((2, 4, 2), DType::F32, &Device::Cpu).unwrap(),
    );
    let mut writer = BundleWriter::new(config, Provenance::default(), StoragePolicy::Q8);
    for (name, tensor) in &tensors {
        writer = writer.tensor(name.clone(), tensor.dims(), move || {
            Ok(tensor.flatten_all()?.to_vec1()?)
        });
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bundle");
    writer.text_bank(&bank).write(&path).unwrap();
    std::fs::read(path).unwrap()
}

#[test]
fn the_builders_of_this_test_build_what_is_accepted() {
    let good = tensor_pickle("FloatStorage", 4, b"K\x00K\x02K\x02\x86K\x02K\x01\x86");
    let file = TensorFile::from_bytes(torch(&good)).unwrap();
    assert_eq!(file.read("w").unwrap(), [0.0; 4]);
    let good = safetensors(
        r#"{"w":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]}}"#,
        &[0; 16],
    );
    assert_eq!(
        TensorFile::from_bytes(good).unwrap().read("w").unwrap(),
        [0.0; 4]
    );
    Bundle::from_bytes(tiny_bundle()).unwrap();
}

#[test]
fn what_is_no_file_of_weights() {
    let folder = tempfile::tempdir().unwrap();
    for (error, part) in [
        (read_all(folder.path()), "directory"),
        (read_all(&folder.path().join("absent")), "absent"),
        (survive(b""), "empty"),
        (survive(b"PK"), "truncated"),
        (survive(b"PK\x03\x04 and more"), "truncated"),
        (
            survive(b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19."),
            "1.6",
        ),
        (
            survive(b"version https://git-lfs.github.com/spec/v1\n"),
            "Git LFS",
        ),
        (
            survive(b"<!DOCTYPE html><html>not found</html>"),
            "safetensors",
        ),
        (survive(&[0xff; 64]), "safetensors"),
    ] {
        assert_eq!(error.len(), 4);
        assert!(error.iter().all(|e| e.contains(part)), "{error:?}");
    }
}

#[cfg(unix)]
#[test]
fn a_file_that_may_not_be_read() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("secret");
    std::fs::write(&path, tiny_bundle()).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o000)).unwrap();
    if std::fs::File::open(&path).is_ok() {
        println!("skipped: this user may read everything (root)");
        return;
    }
    assert!(read_all(&path).iter().all(|e| e.contains("secret")));
}

#[test]
fn safetensors_headers_that_lie() {
    let entry = |dtype: &str, shape: &str, from: u64, to: u64| {
        format!(r#"{{"dtype":"{dtype}","shape":{shape},"data_offsets":[{from},{to}]}}"#)
    };
    let one = |entry: String| safetensors(&format!(r#"{{"w":{entry}}}"#), &[0; 16]);
    let (max, half) = (u64::MAX, u64::MAX / 2);
    let mut huge = one(entry("F32", "[4]", 0, 16));
    huge[..8].copy_from_slice(&u64::MAX.to_le_bytes());
    let mut long = huge.clone();
    long[..8].copy_from_slice(&99_999_999u64.to_le_bytes());
    let both = |a: String, b: String| safetensors(&format!(r#"{{"a":{a},"b":{b}}}"#), &[0; 16]);
    for bytes in [
        huge,
        long,
        one(entry("F32", "[4]", 0, 12)),
        one(entry("F32", "[4]", 4, 20)),
        one(entry("F32", "[5]", 0, 20)),
        one(entry("F32", "[4]", 16, 0)),
        one(entry("F32", "[4]", 0, max)),
        one(entry("I8", &format!("[{}]", max / 8), 0, max / 8)),
        one(entry("F32", &format!("[{half},{half}]"), 0, 16)),
        one(entry("F32", &format!("[{max}]"), 0, 16)),
        one(entry("F32", "[-4]", 0, 16)),
        one(entry("F99", "[4]", 0, 16)),
        both(entry("F32", "[4]", 0, 16), entry("F32", "[4]", 0, 16)),
        both(entry("F32", "[3]", 0, 12), entry("F32", "[2]", 8, 16)),
        both(entry("F32", "[1]", 0, 4), entry("F32", "[2]", 8, 16)),
        safetensors("{", &[]),
        safetensors(&format!("{{\"w\":{}", "[".repeat(1 << 20)), &[]),
    ] {
        refused(&bytes);
    }
    // Sums of sizes that each fit, but not together.
    let size = max / 8;
    let parts = (0..8).map(|i| {
        format!(
            r#""{i}":{}"#,
            entry("I8", &format!("[{size}]"), i * size, (i + 1) * size)
        )
    });
    refused(&safetensors(
        &format!("{{{}}}", parts.collect::<Vec<_>>().join(",")),
        &[],
    ));
}

#[test]
fn archives_that_lie() {
    let good = tensor_pickle("FloatStorage", 4, b"K\x00K\x04\x85K\x01\x85");
    let stored = CompressionMethod::Stored;
    let said = refused(&archive(&[("a/data/0", &[0; 16])], stored));
    assert!(said.contains("data.pkl"), "{said}");
    let said = refused(&archive(
        &[("a/data.pkl", &good), ("a/byteorder", b"big")],
        stored,
    ));
    assert!(said.contains("little-endian"), "{said}");
    let said = survive(&archive(&[("a/data.pkl", &good)], stored)).join("\n");
    assert!(
        said.contains("tensor w") && said.contains("data/0"),
        "{said}"
    );
    let said = survive(&archive(
        &[("a/data.pkl", &good), ("a/data/0", &[0; 15])],
        stored,
    ))
    .join("\n");
    assert!(
        said.contains("tensor w") && said.contains("15 bytes"),
        "{said}"
    );

    let mut packed = torch(&good);
    let at = packed.windows(4).position(|w| w == b"PK\x01\x02").unwrap();
    packed[at + 10] = 8;
    let said = refused(&packed);
    assert!(said.contains("compressed"), "{said}");

    for (offset, value) in [(10, u16::MAX), (10, 9), (12, 1), (16, 7)] {
        let mut broken = torch(&good);
        let end = broken.len() - 22;
        broken[end + offset..][..2].copy_from_slice(&value.to_le_bytes());
        refused(&broken);
    }
    // Every size and offset field of every directory entry, saturated.
    let whole = torch(&good);
    let heads: Vec<_> = (0..whole.len())
        .filter(|at| whole[*at..].starts_with(b"PK\x01\x02"))
        .collect();
    for head in heads {
        for field in [20, 24, 28, 30, 32, 42] {
            for byte in [0x7f, 0xff] {
                let mut broken = whole.clone();
                broken[head + field..][..2].copy_from_slice(&[byte; 2]);
                survive(&broken);
                broken[head + field..][..4].copy_from_slice(&[byte; 4]);
                survive(&broken);
            }
        }
    }
}

#[test]
fn an_archive_that_claims_to_be_vast() {
    // A ZIP64 end record, its locator and the end record, each claiming the most that fits.
    let mut bytes = b"PK\x03\x04".to_vec();
    bytes.resize(1 << 16, 0);
    let end64 = bytes.len() as u64;
    bytes.extend_from_slice(b"PK\x06\x06");
    bytes.extend_from_slice(&[0xff; 52]);
    bytes.extend_from_slice(b"PK\x06\x07\0\0\0\0");
    bytes.extend_from_slice(&end64.to_le_bytes());
    bytes.extend_from_slice(&[1, 0, 0, 0]);
    bytes.extend_from_slice(b"PK\x05\x06\0\0\0\0");
    bytes.extend_from_slice(&[0xff; 12]);
    bytes.extend_from_slice(&[0, 0]);
    refused(&bytes);
    let count = (bytes.len() as u64).to_le_bytes();
    let at = end64 as usize;
    for (field, value) in [(24, count), (32, count), (40, count), (48, [0; 8])] {
        bytes[at + field..][..8].copy_from_slice(&value);
        refused(&bytes);
    }
}

#[test]
fn tensors_that_look_outside_their_storage() {
    for (class, elements, tail, part) in [
        (
            "FloatStorage",
            5,
            &b"K\x00K\x05\x85K\x01\x85"[..],
            "5 elements",
        ),
        ("HalfStorage", 4, b"K\x00K\x04\x85K\x01\x85", "16 bytes"),
        (
            "FloatStorage",
            4,
            b"K\x01K\x04\x85K\x01\x85",
            "outside its storage",
        ),
        (
            "FloatStorage",
            4,
            b"K\x00K\x02K\x02\x86K\x03K\x01\x86",
            "outside its storage",
        ),
        (
            "FloatStorage",
            4,
            b"K\x00K\x02\x85J\xff\xff\xff\xff\x85",
            "strides",
        ),
        (
            "FloatStorage",
            4,
            b"J\xff\xff\xff\xffK\x02\x85K\x01\x85",
            "offset",
        ),
        (
            "FloatStorage",
            4,
            b"K\x00J\xff\xff\xff\x7fJ\xff\xff\xff\x7f\x86K\x00K\x00\x86",
            "outside its storage",
        ),
        (
            "FloatStorage",
            4,
            b"K\x00\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f\x85K\x01\x85",
            "outside its storage",
        ),
        (
            "FloatStorage",
            4,
            b"K\x00K\x02\x85\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f\x85",
            "outside its storage",
        ),
        (
            "FloatStorage",
            4,
            b"K\x00K\x02\x85K\x01K\x01\x86",
            "strides",
        ),
        ("FloatStorage", 4, b"K\x00NN", "shape"),
        (
            "ComplexFloatStorage",
            2,
            b"K\x00K\x02\x85K\x01\x85",
            "ComplexFloatStorage",
        ),
        ("LongStorage", 2, b"K\x00K\x02\x85K\x01\x85", "found I64"),
    ] {
        let said = survive(&torch(&tensor_pickle(class, elements, tail))).join("\n");
        assert!(
            said.contains("tensor w") && said.contains(part),
            "wanted {part}: {said}"
        );
    }
}

#[test]
fn pickles_that_nest_deeply() {
    let deep = 1_000_000;
    for (open, close) in [
        (&b"]"[..], &b"a"[..]),
        (b"}K\x01", b"s"),
        (b"(", b"t"),
        (b"ca\nb\n)\x81", b"b"),
        (b"ctorch._utils\n_rebuild_parameter\n", b"\x85R"),
    ] {
        let n = deep.min((15 << 20) / open.len());
        survive(&torch(
            &[
                b"\x80\x02",
                &open.repeat(n)[..],
                b"N",
                &close.repeat(n),
                b".",
            ]
            .concat(),
        ));
    }
    // Dictionaries that nest, some within the bounds and some not.
    for n in [10, 60, 70, 10_000] {
        let said = survive(&torch(
            &[
                b"\x80\x02",
                &b"}K\x01".repeat(n)[..],
                b"N",
                &b"s".repeat(n),
                b".",
            ]
            .concat(),
        ));
        assert_eq!(said.join("").contains("levels"), n > 64, "{n}");
    }
    // A dictionary that holds itself.
    let said = refused(&torch(b"\x80\x02}q\x00K\x01h\x00s."));
    assert!(said.contains("levels"), "{said}");
}

#[test]
fn pickles_that_unfold() {
    // Forty dictionaries, each holding the one before twice.
    let mut pickle = b"\x80\x02}q\x00".to_vec();
    for i in 0..40u8 {
        pickle.extend_from_slice(&[
            b'}',
            b'K',
            1,
            b'h',
            i,
            b's',
            b'K',
            2,
            b'h',
            i,
            b's',
            b'q',
            i + 1,
        ]);
    }
    pickle.push(b'.');
    let said = refused(&torch(&pickle));
    assert!(said.contains("values"), "{said}");
    // The same behind keys of half a megabyte.
    let key = [&b"X\x00\x00\x08\x00"[..], &vec![b'k'; 1 << 19]].concat();
    survive(&torch(
        &[b"\x80\x02}", &key[..], b"}", &key, b"K\x01ss."].concat(),
    ));
    // Memo slots far apart, a memo that is never filled, a stack of marks, a long pile of values.
    survive(&torch(
        &[&b"\x80\x02N"[..], &b"r\xff\xff\xff\xff".repeat(1000), b"."].concat(),
    ));
    refused(&torch(b"\x80\x02j\xff\xff\xff\xff."));
    survive(&torch(
        &[
            &b"\x80\x02"[..],
            &b"(".repeat(1 << 20),
            &b"1".repeat(1 << 20),
            b"}.",
        ]
        .concat(),
    ));
    let said = refused(&torch(
        &[&b"\x80\x02"[..], &b")".repeat(2 << 20), b"}."].concat(),
    ));
    assert!(said.contains("more than"), "{said}");
    survive(&torch(
        &[
            &b"\x80\x02"[..],
            &b")".repeat(1 << 19),
            &b"\x85".repeat(1 << 18),
            b".",
        ]
        .concat(),
    ));
    let said = refused(&torch(&vec![b'N'; 17 << 20]));
    assert!(said.contains("at most"), "{said}");
}

#[test]
fn a_bundle_whose_config_is_absurd() {
    let good = String::from_utf8_lossy(&tiny_bundle()).into_owned();
    assert!(good.contains(r#"\"layers\":2"#));
    for (from, to) in [
        (
            r#"\"layers\":2,\"heads\":2"#,
            r#"\"layers\":65536,\"heads\":2"#,
        ),
        (r#"\"width\":8"#, r#"\"width\":65536"#),
        (r#"\"image_size\":6"#, r#"\"image_size\":65536"#),
        (r#"\"input_size\":6"#, r#"\"input_size\":60000"#),
        (r#"\"vocab_size\":7"#, r#"\"vocab_size\":1048576"#),
        (r#"\"groups\":2"#, r#"\"groups\":0"#),
        (r#"\"groups\":2"#, r#"\"groups\":18446744073709551615"#),
    ] {
        let bytes = tiny_bundle();
        let size = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        let header = std::str::from_utf8(&bytes[8..8 + size]).unwrap();
        let changed = header.replacen(from, to, 1);
        assert_ne!(header, changed, "{from}");
        let said = survive(&safetensors(&changed, &bytes[8 + size..]));
        // As a base it still is what it was: only the bundle's own config changed.
        assert_eq!(said.len(), 1, "{said:?}");
    }
}

/// The golden files that are small enough to be damaged many times.
fn small_golden() -> Vec<Vec<u8>> {
    ["n2_gelu/adapter.safetensors", "n2_gelu/adapter_1.pth"]
        .iter()
        .filter_map(|name| Some(std::fs::read(shared(&format!("golden/{name}"))?).unwrap()))
        .chain([tiny_bundle()])
        .collect()
}

#[test]
fn truncation_anywhere_is_told() {
    for whole in small_golden() {
        let cuts = (0..64)
            .chain((64..whole.len()).step_by(whole.len() / 64))
            .chain(whole.len() - 64..whole.len());
        for cut in cuts {
            refused(&whole[..cut]);
        }
    }
}

/// Where damage does most: in headers and directories, which lie at a file's ends.
fn place() -> impl Strategy<Value = f64> {
    prop_oneof![0.0..1.0f64, 0.0..0.02f64, 0.98..1.0f64]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn flipped_bytes_never_panic(
        which in 0usize..3,
        flips in prop::collection::vec((place(), any::<u8>()), 1..8),
        cut in prop::option::weighted(0.2, place()),
    ) {
        let files = small_golden();
        let mut bytes = files[which % files.len()].clone();
        for (place, value) in flips {
            let at = (place * bytes.len() as f64) as usize;
            bytes[at] = value;
        }
        if let Some(cut) = cut {
            bytes.truncate((cut * bytes.len() as f64) as usize);
        }
        survive(&bytes);
    }

    #[test]
    fn noise_behind_a_magic_never_panics(
        magic in prop::sample::select(vec![&b""[..], b"PK\x03\x04", b"\x80\x02", b"\x10\0\0\0\0\0\0\0{"]),
        noise in prop::collection::vec(any::<u8>(), 0..512),
    ) {
        survive(&[magic, &noise].concat());
        survive(&torch(&[b"\x80\x02", &noise[..], b"."].concat()));
    }
}

#[test]
fn a_truncated_base_is_told_by_every_reader() {
    let (Some(base), Some(config)) = (
        shared("golden/clip_a_gelu_openai_jit_fp16.pt"),
        golden_config("n2_gelu"),
    ) else {
        return;
    };
    let whole = std::fs::read(base).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hostile-file");
    for cut in [100, whole.len() / 2, whole.len() - 1] {
        std::fs::write(&path, &whole[..cut]).unwrap();
        let said = Import::open(&path, None, config.clone())
            .err()
            .unwrap()
            .to_string();
        assert!(
            said.contains("hostile-file") && said.contains("truncated"),
            "{said}"
        );
    }
}

#[test]
fn the_config_may_be_for_another_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hostile-file");
    save(&tensors(&schema::schema(&tiny_config())), &path);
    for preset in Config::PRESETS {
        let config = Config::preset(preset, Default::default()).unwrap();
        let said = Import::open(&path, Some(&path), config)
            .err()
            .unwrap()
            .to_string();
        assert!(
            said.contains("hostile-file") && said.contains("wanted") && said.contains("found"),
            "{said}"
        );
    }
}
