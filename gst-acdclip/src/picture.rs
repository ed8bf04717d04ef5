//! How negotiated video meets the model's frames and the overlay's canvas: formats, colorimetry, planes.

use acdclip_model::{
    Frame,
    frame::{Colorimetry, Matrix, PixelFormat, Plane, Range},
};
use gst_video::{
    VideoColorMatrix, VideoColorRange, VideoFormat, VideoFrameExt, VideoInterlaceMode,
};

use crate::overlay::canvas::{Canvas, PlaneMut};

/// The formats that the elements take, those they are most often fed first.
const FORMATS: [VideoFormat; 14] = [
    VideoFormat::I420,
    VideoFormat::Nv12,
    VideoFormat::Rgb,
    VideoFormat::Bgr,
    VideoFormat::Rgbx,
    VideoFormat::Bgrx,
    VideoFormat::Xrgb,
    VideoFormat::Xbgr,
    VideoFormat::Rgba,
    VideoFormat::Bgra,
    VideoFormat::Argb,
    VideoFormat::Abgr,
    VideoFormat::Gray8,
    VideoFormat::Gray16Le,
];

/// A sink and a source pad that are always there, for any of [`FORMATS`].
pub(crate) fn pad_templates() -> Vec<gst::PadTemplate> {
    let caps = gst_video::VideoCapsBuilder::new()
        .format_list(FORMATS)
        .build();
    [
        ("sink", gst::PadDirection::Sink),
        ("src", gst::PadDirection::Src),
    ]
    .into_iter()
    .filter_map(|(name, direction)| {
        gst::PadTemplate::new(name, direction, gst::PadPresence::Always, &caps).ok()
    })
    .collect()
}

/// What the caps say, in the model's words.
#[derive(Debug, Clone)]
pub(crate) struct Picture {
    /// As negotiated.
    pub(crate) info: gst_video::VideoInfo,
    /// Layout of its pixels.
    pub(crate) format: PixelFormat,
    /// Matrix and range.
    pub(crate) colorimetry: Colorimetry,
}

impl Picture {
    /// An error says what of the caps cannot be scored, and what to do.
    pub(crate) fn from_caps(caps: &gst::CapsRef) -> Result<Self, String> {
        let info = gst_video::VideoInfo::from_caps(caps).map_err(|e| format!("{caps}: {e}"))?;
        if matches!(
            info.interlace_mode(),
            VideoInterlaceMode::Fields | VideoInterlaceMode::Alternate
        ) {
            return Err(format!(
                "interlace-mode {:?} has one field a buffer; wanted progressive, interleaved or mixed, put a deinterlace element before",
                info.interlace_mode()
            ));
        }
        let format = pixel_format(info.format()).ok_or_else(|| {
            format!(
                "format {:?} is not supported; put a videoconvert element before",
                info.format()
            )
        })?;
        let colorimetry = Colorimetry {
            matrix: matrix(&info),
            range: match info.colorimetry().range() {
                VideoColorRange::Range16_235 => Range::Limited,
                _ => Range::Full,
            },
        };
        Ok(Self {
            info,
            format,
            colorimetry,
        })
    }

    /// The same with that many bits of 16 in use, where it is grey of 16 bits.
    pub(crate) fn with_gray_depth(self, depth: u8) -> Self {
        match self.format {
            PixelFormat::Gray16 { .. } => Self {
                format: PixelFormat::Gray16 { depth },
                ..self
            },
            _ => self,
        }
    }

    /// Width and height in pixels.
    pub(crate) fn size(&self) -> (u32, u32) {
        (self.info.width(), self.info.height())
    }

    /// Whether a buffer's frame has two fields.
    pub(crate) fn is_interlaced(&self, buffer: &gst::BufferRef) -> bool {
        match self.info.interlace_mode() {
            VideoInterlaceMode::Interleaved => true,
            VideoInterlaceMode::Mixed => buffer.flags().contains(
                gst::BufferFlags::from_bits_retain(gst_video::VideoBufferFlags::INTERLACED.bits()),
            ),
            _ => false,
        }
    }

    /// From frame to frame, where the caps say.
    pub(crate) fn frame_duration(&self) -> Option<std::time::Duration> {
        let fps = self.info.fps();
        let known = fps.numer() > 0 && fps.denom() > 0;
        known.then(|| {
            std::time::Duration::from_secs_f64(f64::from(fps.denom()) / f64::from(fps.numer()))
        })
    }

    /// Pixels, across and down, on whose multiples a part of the frame may begin: whole colour samples, of the same field.
    pub(crate) fn crop_step(&self) -> (u32, u32) {
        let step = self.format.crop_step() as u32;
        let fields = match self.info.interlace_mode() {
            VideoInterlaceMode::Progressive => 1,
            _ => 2,
        };
        (step, step * fields)
    }

    /// The model's view of a mapped frame.
    pub(crate) fn frame<'a>(
        &self,
        mapped: &'a gst_video::VideoFrameRef<&gst::BufferRef>,
    ) -> acdclip_model::Result<Frame<'a>> {
        let strides = strides(mapped.plane_stride())?;
        let data = mapped.planes_data();
        let planes: Vec<Plane<'a>> = data
            .into_iter()
            .zip(strides)
            .take(self.format.plane_count())
            .map(|(data, stride)| Plane { data, stride })
            .collect();
        let (width, height) = self.size();
        Frame::new(
            self.format,
            width as usize,
            height as usize,
            &planes,
            self.colorimetry,
        )
    }

    /// The overlay's view of a frame mapped for writing.
    pub(crate) fn canvas<'a>(
        &self,
        mapped: &'a mut gst_video::VideoFrameRef<&mut gst::BufferRef>,
    ) -> acdclip_model::Result<Canvas<'a>> {
        let strides = strides(mapped.plane_stride())?;
        let planes = mapped
            .planes_data_mut()
            .into_iter()
            .zip(strides)
            .take(self.format.plane_count())
            .map(|(data, stride)| PlaneMut { data, stride })
            .collect();
        let (width, height) = self.size();
        Canvas::new(self.format, width as usize, height as usize, planes)
    }
}

fn strides(strides: &[i32]) -> acdclip_model::Result<Vec<usize>> {
    let stride = |stride: &i32| {
        usize::try_from(*stride).map_err(|_| {
            acdclip_model::Error::Frame(format!("wanted a stride of 0 or more, found {stride}"))
        })
    };
    strides.iter().map(stride).collect()
}

fn pixel_format(format: VideoFormat) -> Option<PixelFormat> {
    Some(match format {
        VideoFormat::Rgb => PixelFormat::Rgb,
        VideoFormat::Bgr => PixelFormat::Bgr,
        VideoFormat::Rgbx | VideoFormat::Rgba => PixelFormat::Rgbx,
        VideoFormat::Bgrx | VideoFormat::Bgra => PixelFormat::Bgrx,
        VideoFormat::Xrgb | VideoFormat::Argb => PixelFormat::Xrgb,
        VideoFormat::Xbgr | VideoFormat::Abgr => PixelFormat::Xbgr,
        VideoFormat::Gray8 => PixelFormat::Gray8,
        VideoFormat::Gray16Le => PixelFormat::Gray16 { depth: 16 },
        VideoFormat::Nv12 => PixelFormat::Nv12,
        VideoFormat::I420 => PixelFormat::I420,
        _ => return None,
    })
}

/// The matrix that the caps name; one that is not known here is GStreamer's choice for a picture of that size. RGB and grey have no use
/// for any.
fn matrix(info: &gst_video::VideoInfo) -> Matrix {
    known_matrix(info.colorimetry().matrix())
        .or_else(|| {
            let plain = gst_video::VideoInfo::builder(info.format(), info.width(), info.height());
            known_matrix(plain.build().ok()?.colorimetry().matrix())
        })
        .unwrap_or_default()
}

fn known_matrix(matrix: VideoColorMatrix) -> Option<Matrix> {
    Some(match matrix {
        VideoColorMatrix::Bt601 => Matrix::Bt601,
        VideoColorMatrix::Bt709 => Matrix::Bt709,
        VideoColorMatrix::Bt2020 => Matrix::Bt2020,
        VideoColorMatrix::Smpte240m => Matrix::Smpte240m,
        VideoColorMatrix::Fcc => Matrix::Fcc,
        _ => return None,
    })
}
