//! Where a frame's time goes: the compact model at three input sizes, in each arithmetic, whole and stage by stage.
//!
//! The stages of one size add up to its `frame`: `preprocess`, `network` (tower, adapters and heads), and `map` (gateway, class, map,
//! regions).
#![allow(clippy::unwrap_used)]

use acdclip_model::{
    Config, Frame,
    bundle::Bundle,
    frame::{Colorimetry, Matrix, PixelFormat, Plane, Range},
    map::AnomalyMap,
    net::{AcdClip, Tokens},
    precision::Packing,
    preprocess::{Placement, Preprocessor, Scratch, View},
};
use candle_core::{DType, Device, Tensor};
use divan::{Bencher, black_box};

/// Sides of the network's input, pixels.
const SIDES: [usize; 3] = [224, 252, 518];

/// What is measured: a side, and how the tower is packed; candle's plain operations where it is not.
#[derive(Debug, Clone, Copy)]
struct Case {
    side: usize,
    packing: Option<Packing>,
}

impl std::fmt::Display for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.packing {
            None => write!(f, "{} plain", self.side),
            Some(packing) => write!(f, "{} {packing}", self.side),
        }
    }
}

fn cases() -> impl Iterator<Item = Case> {
    let packings = || std::iter::once(None).chain(Packing::available().map(Some));
    let case = move |side| packings().map(move |packing| Case { side, packing });
    SIDES.into_iter().flat_map(case)
}

/// Size of the frame that is measured, pixels.
const FRAME: (usize, usize) = (1920, 1080);

fn main() {
    divan::main();
}

/// The compact model as a detector loads it, for one input size.
struct Compact {
    config: Config,
    net: AcdClip,
    text: Tensor,
    preprocessor: Preprocessor,
}

impl Compact {
    fn load(Case { side, packing }: Case) -> Self {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/weights/compact.safetensors");
        let bundle = Bundle::open(path.as_ref()).unwrap();
        let config = bundle.config().clone();
        let vb = bundle.var_builder(DType::F32, &Device::Cpu);
        let text = bundle
            .text_bank()
            .unwrap()
            .get("object")
            .unwrap()
            .unsqueeze(0)
            .unwrap();
        let net = AcdClip::new(&config, vb.clone(), vb)
            .unwrap()
            .fold()
            .unwrap();
        Self {
            net: match packing {
                Some(packing) => net.pack(packing).unwrap(),
                None => net,
            },
            text,
            preprocessor: Preprocessor::new(side, side, config.image_mean, config.image_std)
                .unwrap(),
            config,
        }
    }

    fn side(&self) -> usize {
        self.preprocessor.len().div_euclid(3).isqrt()
    }

    fn preprocess(&self, frame: &Frame<'_>, scratch: &mut Scratch) -> Tensor {
        let mut out = vec![0.0; self.preprocessor.len()];
        self.preprocessor
            .run(frame, View::default(), scratch, &mut out)
            .unwrap();
        Tensor::from_vec(out, (1, 3, self.side(), self.side()), &Device::Cpu).unwrap()
    }

    fn map(&self, tokens: &Tokens) -> usize {
        let class = self.net.class_probability(tokens, &self.text).unwrap();
        let map = self
            .net
            .patch_map(tokens, &self.text, self.config.blur)
            .unwrap();
        let values = map.flatten_all().unwrap().to_vec1().unwrap();
        let side = self.side();
        let whole = Placement {
            x: 0.0,
            y: 0.0,
            width: side as f32,
            height: side as f32,
        };
        let (rows, columns) = tokens.grid;
        let map = AnomalyMap::new(
            (columns, rows),
            values,
            self.net.map_values(),
            (side, side),
            whole,
        )
        .unwrap();
        black_box((class, map.max()));
        map.regions(0.5, 0, FRAME.0 as u32, FRAME.1 as u32).len()
    }
}

/// A full HD NV12 picture with structure in it.
fn with_frame<T>(f: impl FnOnce(&Frame<'_>) -> T) -> T {
    let (width, height) = FRAME;
    let data: Vec<u8> = (0..width * height * 3 / 2)
        .map(|i| (i * 31 % 251) as u8)
        .collect();
    let (luma, chroma) = data.split_at(width * height);
    let planes = [luma, chroma].map(|data| Plane {
        data,
        stride: width,
    });
    let colorimetry = Colorimetry {
        matrix: Matrix::Bt709,
        range: Range::Limited,
    };
    f(&Frame::new(PixelFormat::Nv12, width, height, &planes, colorimetry).unwrap())
}

#[divan::bench(args = cases(), sample_count = 20, sample_size = 1, max_time = 20)]
fn frame(bencher: Bencher<'_, '_>, case: Case) {
    let model = Compact::load(case);
    let mut scratch = Scratch::default();
    with_frame(|frame| {
        bencher.bench_local(|| {
            let pixels = model.preprocess(frame, &mut scratch);
            model.map(&model.net.forward(&pixels).unwrap())
        });
    });
}

#[divan::bench(args = cases(), sample_count = 20, sample_size = 1, max_time = 20)]
fn preprocess(bencher: Bencher<'_, '_>, case: Case) {
    let model = Compact::load(case);
    let mut scratch = Scratch::default();
    with_frame(|frame| bencher.bench_local(|| model.preprocess(frame, &mut scratch)));
}

#[divan::bench(args = cases(), sample_count = 20, sample_size = 1, max_time = 20)]
fn network(bencher: Bencher<'_, '_>, case: Case) {
    let model = Compact::load(case);
    let pixels = with_frame(|frame| model.preprocess(frame, &mut Scratch::default()));
    bencher.bench_local(|| model.net.forward(black_box(&pixels)).unwrap());
}

#[divan::bench(args = cases(), sample_count = 20, sample_size = 1, max_time = 20)]
fn map(bencher: Bencher<'_, '_>, case: Case) {
    let model = Compact::load(case);
    let pixels = with_frame(|frame| model.preprocess(frame, &mut Scratch::default()));
    let tokens = model.net.forward(&pixels).unwrap();
    bencher.bench_local(|| model.map(black_box(&tokens)));
}
