//! Preprocessing against Pillow's numbers, and against the formulas written out in f64.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::PathBuf;

use acdclip_model::{
    Frame, Mask,
    frame::{Colorimetry, Matrix, PixelFormat, Plane, Range},
    preprocess::{Placement, Preprocessor, Resize, Scratch, View},
};
use proptest::prelude::*;

const CLIP_MEAN: [f32; 3] = [0.481_454_66, 0.457_827_5, 0.408_210_73];
const CLIP_STD: [f32; 3] = [0.268_629_54, 0.261_302_6, 0.275_777_1];
const FORMATS: [PixelFormat; 11] = [
    PixelFormat::Rgb,
    PixelFormat::Bgr,
    PixelFormat::Rgbx,
    PixelFormat::Bgrx,
    PixelFormat::Xrgb,
    PixelFormat::Xbgr,
    PixelFormat::Gray8,
    PixelFormat::Gray16 { depth: 16 },
    PixelFormat::Gray16 { depth: 10 },
    PixelFormat::Nv12,
    PixelFormat::I420,
];

/// A picture that owns its planes, each with `padding` bytes after every row but the last.
#[derive(Debug, Clone)]
struct Picture {
    format: PixelFormat,
    width: usize,
    height: usize,
    colorimetry: Colorimetry,
    planes: Vec<(Vec<u8>, usize)>,
}

impl Picture {
    fn new(
        format: PixelFormat,
        (width, height): (usize, usize),
        colorimetry: Colorimetry,
        padding: usize,
        seed: u64,
    ) -> Self {
        let mut state = seed | 1;
        let mut byte = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        };
        let planes = (0..format.plane_count())
            .map(|plane| {
                let (row, rows) = format.plane_size(plane, width, height);
                let stride = row + padding;
                (
                    (0..stride * (rows - 1) + row).map(|_| byte()).collect(),
                    stride,
                )
            })
            .collect();
        Self {
            format,
            width,
            height,
            colorimetry,
            planes,
        }
    }

    /// A part of a frame, copied sample by sample.
    fn copied(frame: &Frame<'_>, (x, y): (usize, usize), (width, height): (usize, usize)) -> Self {
        let format = frame.format();
        let planes = (0..format.plane_count())
            .map(|plane| {
                // Pixels that share a sample, each way, and bytes of a sample.
                let (shared, bytes) = match (format, plane) {
                    (PixelFormat::Rgb | PixelFormat::Bgr, _) => (1, 3),
                    (PixelFormat::Gray8, _) | (PixelFormat::Nv12 | PixelFormat::I420, 0) => (1, 1),
                    (PixelFormat::Gray16 { .. }, _) => (1, 2),
                    (PixelFormat::Nv12, _) => (2, 2),
                    (PixelFormat::I420, _) => (2, 1),
                    _ => (1, 4),
                };
                let mut data = Vec::new();
                for y in (y..y + height).step_by(shared) {
                    for x in (x..x + width).step_by(shared) {
                        let at = x / shared * bytes;
                        data.extend_from_slice(&frame.row(plane, y / shared)[at..at + bytes]);
                    }
                }
                (data, width.div_ceil(shared) * bytes)
            })
            .collect();
        Self {
            format,
            width,
            height,
            colorimetry: frame.colorimetry(),
            planes,
        }
    }

    fn frame(&self) -> Frame<'_> {
        let planes: Vec<Plane<'_>> = self
            .planes
            .iter()
            .map(|(data, stride)| Plane {
                data,
                stride: *stride,
            })
            .collect();
        Frame::new(
            self.format,
            self.width,
            self.height,
            &planes,
            self.colorimetry,
        )
        .unwrap()
    }
}

/// What a pixel's red, green and blue are by the standards' formulas, 0 to 255, not rounded.
fn exact_rgb(frame: &Frame<'_>, x: usize, y: usize) -> [f64; 3] {
    let sample = |plane: usize, x: usize, y: usize| f64::from(frame.row(plane, y)[x]);
    let Colorimetry { matrix, range } = frame.colorimetry();
    let (black, luma_scale, chroma_scale) = match range {
        Range::Full => (0.0, 1.0, 1.0),
        Range::Limited => (16.0, 255.0 / 219.0, 255.0 / 224.0),
    };
    let luma = |value: f64| (value - black) * luma_scale;
    let packed = |size: usize, order: [usize; 3]| {
        order.map(|offset| luma(sample(0, size * x + offset, y)).clamp(0.0, 255.0))
    };
    let (u, v) = match frame.format() {
        PixelFormat::Rgb => return packed(3, [0, 1, 2]),
        PixelFormat::Bgr => return packed(3, [2, 1, 0]),
        PixelFormat::Rgbx => return packed(4, [0, 1, 2]),
        PixelFormat::Bgrx => return packed(4, [2, 1, 0]),
        PixelFormat::Xrgb => return packed(4, [1, 2, 3]),
        PixelFormat::Xbgr => return packed(4, [3, 2, 1]),
        PixelFormat::Gray8 => return packed(1, [0, 0, 0]),
        PixelFormat::Gray16 { depth } => {
            let value = sample(0, 2 * x, y) + 256.0 * sample(0, 2 * x + 1, y);
            let steps = f64::from(1 << (depth - 8));
            return [luma((value / steps).floor().min(255.0)).clamp(0.0, 255.0); 3];
        }
        PixelFormat::Nv12 => (sample(1, x / 2 * 2, y / 2), sample(1, x / 2 * 2 + 1, y / 2)),
        PixelFormat::I420 => (sample(1, x / 2, y / 2), sample(2, x / 2, y / 2)),
    };
    let (kr, kb) = match matrix {
        Matrix::Bt601 => (0.299, 0.114),
        Matrix::Bt709 => (0.2126, 0.0722),
        Matrix::Bt2020 => (0.2627, 0.0593),
        Matrix::Smpte240m => (0.212, 0.087),
        Matrix::Fcc => (0.30, 0.11),
    };
    let (y, u, v) = (
        luma(sample(0, x, y)),
        (u - 128.0) * chroma_scale,
        (v - 128.0) * chroma_scale,
    );
    let red = y + 2.0 * (1.0 - kr) * v;
    let blue = y + 2.0 * (1.0 - kb) * u;
    let green = (y - kr * red - kb * blue) / (1.0 - kr - kb);
    [red, green, blue].map(|value| value.clamp(0.0, 255.0))
}

/// The input in pixel scale: mean 0 and deviation 1/255 keep the sample values as they are.
fn run(
    frame: &Frame<'_>,
    size: (usize, usize),
    resize: Resize,
    aspect: (u32, u32),
) -> (Vec<f32>, Placement) {
    let preprocessor = Preprocessor::new(size.0, size.1, [0.0; 3], [1.0 / 255.0; 3]).unwrap();
    let mut out = vec![f32::NAN; preprocessor.len()];
    let view = View {
        resize,
        pixel_aspect: aspect,
        mask: None,
    };
    let placement = preprocessor
        .run(frame, view, &mut Scratch::default(), &mut out)
        .unwrap();
    (out, placement)
}

fn squash(frame: &Frame<'_>, size: (usize, usize)) -> Vec<f32> {
    run(frame, size, Resize::Squash, (1, 1)).0
}

fn any_colorimetry() -> impl Strategy<Value = Colorimetry> {
    let matrix = prop_oneof![
        Just(Matrix::Bt601),
        Just(Matrix::Bt709),
        Just(Matrix::Bt2020)
    ];
    let range = prop_oneof![Just(Range::Full), Just(Range::Limited)];
    (matrix, range).prop_map(|(matrix, range)| Colorimetry { matrix, range })
}

fn any_picture() -> impl Strategy<Value = Picture> {
    let size = (1_usize..24, 1_usize..24);
    let format = (0..FORMATS.len()).prop_map(|i| FORMATS[i]);
    (format, size, any_colorimetry(), 0_usize..5, any::<u64>()).prop_map(
        |(format, size, colorimetry, padding, seed)| {
            Picture::new(format, size, colorimetry, padding, seed)
        },
    )
}

/// Pillow's bicubic along one axis, in f64: the kernel is stretched over what one output sample covers, weights sum to 1.
fn resample(line: &[f64], len: usize) -> Vec<f64> {
    let kernel = |x: f64| match x.abs() {
        x if x < 1.0 => (1.5 * x - 2.5) * x * x + 1.0,
        x if x < 2.0 => ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0,
        _ => 0.0,
    };
    let scale = line.len() as f64 / len as f64;
    let stretch = scale.max(1.0);
    (0..len)
        .map(|i| {
            let centre = (i as f64 + 0.5) * scale;
            let weights = (0..line.len()).map(|j| kernel((j as f64 + 0.5 - centre) / stretch));
            let total: f64 = weights.clone().sum();
            weights
                .zip(line)
                .map(|(weight, value)| weight * value)
                .sum::<f64>()
                / total
        })
        .map(|value| value.round().clamp(0.0, 255.0))
        .collect()
}

/// One channel of a frame, resized by the plain formula: rows first, then columns, 8 bits between them, as Pillow does.
fn exact_resized(frame: &Frame<'_>, channel: usize, (width, height): (usize, usize)) -> Vec<f64> {
    let rows: Vec<Vec<f64>> = (0..frame.height())
        .map(|y| {
            let row: Vec<f64> = (0..frame.width())
                .map(|x| exact_rgb(frame, x, y)[channel].round())
                .collect();
            if frame.width() == width {
                row
            } else {
                resample(&row, width)
            }
        })
        .collect();
    let columns: Vec<Vec<f64>> = (0..width)
        .map(|x| {
            let column: Vec<f64> = rows.iter().map(|row| row[x]).collect();
            if frame.height() == height {
                column
            } else {
                resample(&column, height)
            }
        })
        .collect();
    (0..height)
        .flat_map(|y| columns.iter().map(move |column| column[y]))
        .collect()
}

/// A picture, and left top corner and size of a part of it that its format allows.
fn any_part() -> impl Strategy<Value = (Picture, (usize, usize), (usize, usize))> {
    (any_picture(), any::<[prop::sample::Index; 4]>()).prop_map(|(picture, picks)| {
        let step = picture.format.crop_step();
        let span = |from: prop::sample::Index, len: prop::sample::Index, whole: usize| {
            let start = from.index(whole) / step * step;
            (start, 1 + len.index(whole - start))
        };
        let (x, width) = span(picks[0], picks[1], picture.width);
        let (y, height) = span(picks[2], picks[3], picture.height);
        (picture, (x, y), (width, height))
    })
}

fn any_mask() -> impl Strategy<Value = Mask> {
    (1_usize..9, 1_usize..9).prop_flat_map(|(width, height)| {
        prop::collection::vec(any::<bool>(), width * height)
            .prop_map(move |pixels| Mask::new(width, height, pixels).unwrap())
    })
}

fn is_resized_as_the_plain_formula_says(
    picture: &Picture,
    size: (usize, usize),
) -> Result<(), TestCaseError> {
    let frame = picture.frame();
    let out = squash(&frame, size);
    // Each of the two passes rounds, and makes up to 1.3 times as much of what the one before, or the conversion, was off by.
    let tolerance = if picture.planes.len() == 1 {
        2.001
    } else {
        4.001
    };
    for (channel, plane) in out.chunks_exact(size.0 * size.1).enumerate() {
        for (found, exact) in plane.iter().zip(exact_resized(&frame, channel, size)) {
            prop_assert!(
                (f64::from(*found) - exact).abs() <= tolerance,
                "channel {channel}: {found}, exactly {exact}"
            );
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn a_part_has_the_pixels_that_the_frame_has_there((picture, (x, y), (width, height)) in any_part()) {
        let frame = picture.frame();
        let whole = squash(&frame, (picture.width, picture.height));
        let part = squash(&frame.crop(x, y, width, height).unwrap(), (width, height));
        for (i, value) in part.iter().enumerate() {
            let (channel, row, column) = (i / (width * height), i / width % height, i % width);
            prop_assert_eq!(*value, whole[(channel * picture.height + y + row) * picture.width + x + column]);
        }
    }

    #[test]
    fn a_part_is_resized_as_a_copy_of_it_is(
        (picture, corner, size) in any_part(),
        to in (1_usize..40, 1_usize..40),
        resize in prop_oneof![Just(Resize::Squash), Just(Resize::Fit)],
    ) {
        let frame = picture.frame();
        let part = frame.crop(corner.0, corner.1, size.0, size.1).unwrap();
        let copy = Picture::copied(&frame, corner, size);
        prop_assert_eq!(run(&part, to, resize, (1, 1)), run(&copy.frame(), to, resize, (1, 1)));
    }

    #[test]
    fn what_does_not_count_has_the_mean_colour_and_the_rest_is_as_it_was(
        picture in any_picture(),
        size in (1_usize..40, 1_usize..40),
        resize in prop_oneof![Just(Resize::Squash), Just(Resize::Fit)],
        mask in any_mask(),
    ) {
        let preprocessor = Preprocessor::new(size.0, size.1, CLIP_MEAN, CLIP_STD).unwrap();
        let run = |mask| {
            let view = View { resize, mask, ..View::default() };
            let mut out = vec![f32::NAN; preprocessor.len()];
            let at = preprocessor.run(&picture.frame(), view, &mut Scratch::default(), &mut out).unwrap();
            (out, at)
        };
        let (plain, placement) = run(None);
        let (masked, masked_placement) = run(Some(&mask));
        prop_assert_eq!(placement, masked_placement);
        let (width, height) = (placement.width as usize, placement.height as usize);
        let counting: Vec<Vec<bool>> = {
            let mask = mask.stretched(width, height);
            (0..height).map(|y| mask.row(y).collect()).collect()
        };
        for (i, value) in masked.iter().enumerate() {
            let (row, column) = (i / size.0 % size.1, i % size.0);
            let at = (row.wrapping_sub(placement.y as usize), column.wrapping_sub(placement.x as usize));
            let counts = counting.get(at.0).and_then(|row| row.get(at.1)).copied();
            // Beside the frame both are 0.
            prop_assert_eq!(*value, if counts == Some(false) { 0.0 } else { plain[i] });
        }
    }

    #[test]
    fn a_frame_of_the_inputs_size_is_converted_to_within_one(picture in any_picture()) {
        let frame = picture.frame();
        let (width, height) = (picture.width, picture.height);
        let out = squash(&frame, (width, height));
        for y in 0..height {
            for x in 0..width {
                for (channel, exact) in exact_rgb(&frame, x, y).into_iter().enumerate() {
                    let found = f64::from(out[(channel * height + y) * width + x]);
                    prop_assert!((found - exact).abs() <= 1.0, "({x}, {y}) channel {channel}: {found}, exactly {exact}");
                }
            }
        }
    }

    #[test]
    fn any_frame_is_resized_as_the_plain_formula_says(picture in any_picture(), size in (1_usize..40, 1_usize..40)) {
        is_resized_as_the_plain_formula_says(&picture, size)?;
    }

    #[test]
    fn a_tall_frame_that_is_converted_in_bands_is_resized_as_the_plain_formula_says(
        (format, height, colorimetry, seed) in (0..FORMATS.len(), 120_usize..400, any_colorimetry(), any::<u64>()),
        size in (1_usize..6, 1_usize..60),
    ) {
        let picture = Picture::new(FORMATS[format], (5, height), colorimetry, 1, seed);
        is_resized_as_the_plain_formula_says(&picture, size)?;
    }

    #[test]
    fn padding_changes_nothing(format in (0..FORMATS.len()), size in (1_usize..24, 1_usize..24), colorimetry in any_colorimetry(), seed in any::<u64>()) {
        let padded = Picture::new(FORMATS[format], size, colorimetry, 3, seed);
        let mut tight = padded.clone();
        for (plane, (data, stride)) in tight.planes.iter_mut().enumerate() {
            let (row, rows) = padded.format.plane_size(plane, size.0, size.1);
            *data = (0..rows).flat_map(|y| padded.frame().row(plane, y).to_vec()).collect();
            *stride = row;
        }
        prop_assert_eq!(squash(&padded.frame(), (14, 9)), squash(&tight.frame(), (14, 9)));
    }

    #[test]
    fn a_fitted_frame_keeps_its_shape_and_the_rest_is_mean(
        picture in any_picture(),
        size in (1_usize..40, 1_usize..40),
        aspect in (1_u32..5, 1_u32..5),
    ) {
        let frame = picture.frame();
        let (out, Placement { x, y, width, height }) = run(&frame, size, Resize::Fit, aspect);
        let (wide, high) = (size.0 as f32, size.1 as f32);
        prop_assert!(width == wide || height == high, "touches no side: {width}x{height} in {wide}x{high}");
        prop_assert!((wide - width - 2.0 * x).abs() <= 1.0 && (high - height - 2.0 * y).abs() <= 1.0, "off centre");
        let shape = picture.width as f32 * aspect.0 as f32 / (picture.height as f32 * aspect.1 as f32);
        let ideal = if shape > wide / high { (wide, wide / shape) } else { (high * shape, high) };
        prop_assert!((width - ideal.0.max(1.0)).abs() <= 0.51 && (height - ideal.1.max(1.0)).abs() <= 0.51);

        let inner = squash(&frame, (width as usize, height as usize));
        let (left, top) = (x as usize, y as usize);
        for (i, value) in out.iter().enumerate() {
            let (channel, row, column) = (i / (size.0 * size.1), i / size.0 % size.1, i % size.0);
            let is_inside = (left..left + width as usize).contains(&column) && (top..top + height as usize).contains(&row);
            let wanted = if is_inside {
                inner[(channel * height as usize + row - top) * width as usize + column - left]
            } else {
                0.0
            };
            prop_assert_eq!(*value, wanted);
        }
    }
}

#[test]
fn known_colours_come_out_of_every_matrix_and_range() {
    // Y'CbCr of pure red, from the standards' definitions, rounded to 8 bits.
    let red = [
        (Matrix::Bt601, Range::Full, [76, 85, 255]),
        (Matrix::Bt601, Range::Limited, [81, 90, 240]),
        (Matrix::Bt709, Range::Full, [54, 99, 255]),
        (Matrix::Bt709, Range::Limited, [63, 102, 240]),
        (Matrix::Bt2020, Range::Full, [67, 92, 255]),
        (Matrix::Bt2020, Range::Limited, [74, 97, 240]),
    ];
    for (matrix, range, [y, u, v]) in red {
        let colorimetry = Colorimetry { matrix, range };
        let (luma, chroma) = ([y; 1], [u, v]);
        let planes = [
            Plane {
                data: &luma,
                stride: 1,
            },
            Plane {
                data: &chroma,
                stride: 2,
            },
        ];
        let frame = Frame::new(PixelFormat::Nv12, 1, 1, &planes, colorimetry).unwrap();
        let out = squash(&frame, (1, 1));
        let error = out
            .iter()
            .zip([255.0, 0.0, 0.0])
            .map(|(found, wanted): (&f32, f32)| (found - wanted).abs());
        assert!(
            error.clone().all(|e| e <= 3.0),
            "{matrix:?} {range:?}: {out:?}"
        );
    }
}

#[test]
fn thin_frames_of_every_format_pass() {
    for format in FORMATS {
        for size in [(1, 1), (1, 97), (97, 1), (2, 3)] {
            let picture = Picture::new(format, size, Colorimetry::default(), 1, 7);
            for resize in [Resize::Squash, Resize::Fit] {
                let (out, _) = run(&picture.frame(), (14, 28), resize, (1, 1));
                assert!(
                    out.iter().all(|value| value.is_finite()),
                    "{format:?} {size:?} {resize:?}"
                );
            }
        }
    }
}

#[test]
fn a_scratch_serves_frames_of_any_size_and_format() {
    let preprocessor = Preprocessor::new(9, 7, CLIP_MEAN, CLIP_STD).unwrap();
    let mut scratch = Scratch::default();
    let mut out = vec![0.0; preprocessor.len()];
    for size in [(31, 17), (3, 2), (31, 17), (64, 5)] {
        for format in FORMATS {
            let picture = Picture::new(format, size, Colorimetry::default(), 2, 11);
            preprocessor
                .run(&picture.frame(), View::default(), &mut scratch, &mut out)
                .unwrap();
            let mut fresh = vec![0.0; preprocessor.len()];
            preprocessor
                .run(
                    &picture.frame(),
                    View::default(),
                    &mut Scratch::default(),
                    &mut fresh,
                )
                .unwrap();
            assert_eq!(out, fresh, "{format:?} {size:?}");
        }
    }
}

#[test]
fn wrong_sizes_are_errors() {
    assert!(Preprocessor::new(0, 14, CLIP_MEAN, CLIP_STD).is_err());
    assert!(Preprocessor::new(14, Frame::MAX_SIDE + 1, CLIP_MEAN, CLIP_STD).is_err());
    let preprocessor = Preprocessor::new(4, 5, CLIP_MEAN, CLIP_STD).unwrap();
    let frame = Frame::rgb(&[0; 3], 3, 1, 1).unwrap();
    let error = preprocessor
        .run(
            &frame,
            View::default(),
            &mut Scratch::default(),
            &mut [0.0; 59],
        )
        .unwrap_err();
    assert!(
        error.to_string().contains("60") && error.to_string().contains("59"),
        "{error}"
    );
}

#[test]
fn a_photograph_comes_out_as_pillow_has_it() {
    let shared = std::env::var_os("ACDCLIP_SHARED").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared"),
        PathBuf::from,
    );
    let golden = shared.join("golden");
    let (Ok(png), Ok(expected)) = (
        std::fs::File::open(golden.join("image.png")),
        std::fs::read(golden.join("preprocess.safetensors")),
    ) else {
        println!("skipped: Pillow's numbers ({} is absent)", golden.display());
        return;
    };
    let mut reader = png::Decoder::new(std::io::BufReader::new(png))
        .read_info()
        .unwrap();
    let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
    let info = reader.next_frame(&mut pixels).unwrap();
    assert_eq!(info.color_type, png::ColorType::Rgb);
    let frame = Frame::rgb(
        &pixels,
        info.line_size,
        info.width as usize,
        info.height as usize,
    )
    .unwrap();
    let expected = safetensors::SafeTensors::deserialize(&expected).unwrap();
    for side in [70, 336] {
        let preprocessor = Preprocessor::new(side, side, CLIP_MEAN, CLIP_STD).unwrap();
        let mut out = vec![0.0; preprocessor.len()];
        preprocessor
            .run(&frame, View::default(), &mut Scratch::default(), &mut out)
            .unwrap();
        let wanted = expected.tensor(&format!("resize_{side}")).unwrap();
        let wanted = wanted
            .data()
            .chunks_exact(4)
            .map(|b| f32::from_le_bytes(b.try_into().unwrap()));
        assert_eq!(wanted.len(), out.len());
        let plane = side * side;
        let errors = out
            .iter()
            .zip(wanted)
            .enumerate()
            .map(|(i, (a, b))| (a - b).abs() * CLIP_STD[i / plane] * 255.0);
        let beyond = errors.clone().filter(|e| *e > 1.001).count();
        let largest = errors.fold(0.0, f32::max);
        println!(
            "{side} px: largest difference {largest} of 255, {beyond} values of {} beyond 1",
            out.len()
        );
        assert!(
            beyond * 1000 <= out.len(),
            "{side} px: {beyond} of {} values are off by more than 1",
            out.len()
        );
    }
}
