//! Session descriptions as webrtcbin takes and gives them: GstWebRTCSessionDescription, without the headers of the library that it is from.
//!
//! Those come with Debian's libgstreamer-plugins-bad1.0-dev and all that it needs; two fields of one structure do not make up for that. The
//! type itself is there at run time: webrtcbin registers it. The only `unsafe` code of the monitor.
#![allow(unsafe_code)]

use std::ffi::{c_int, c_void};

use gst::glib::{self, translate::*};
use gst_sdp::{SDPMessage, ffi::GstSDPMessage};

/// The type's name.
const NAME: &str = "GstWebRTCSessionDescription";

/// A description that is an answer, of GstWebRTCSDPType.
pub(super) const ANSWER: c_int = 3;

/// GstWebRTCSessionDescription of gst/webrtc/rtcsessiondescription.h: the same in every GStreamer 1.x since 1.14.
#[repr(C)]
struct Description {
    kind: c_int,
    sdp: *mut GstSDPMessage,
}

/// The type; none before the first webrtcbin has been made.
fn its_type() -> Option<glib::Type> {
    glib::Type::from_name(NAME).filter(|found| found.is_a(glib::Type::BOXED))
}

/// A description of that kind, one of GstWebRTCSDPType; none where the type is not known.
pub(super) fn describe(kind: c_int, sdp: &SDPMessage) -> Option<glib::Value> {
    let mut value = glib::Value::from_type(its_type()?);
    let message: *const GstSDPMessage = sdp.to_glib_none().0;
    let description = Description {
        kind,
        sdp: message.cast_mut(),
    };
    // SAFETY: `value` is initialised and of the boxed type whose structure `Description` is. `g_value_set_boxed` takes a copy by that type's
    // own function, which reads both fields and copies the message; both outlive the call, and nothing writes through the pointer.
    unsafe {
        glib::gobject_ffi::g_value_set_boxed(
            value.to_glib_none_mut().0,
            (&raw const description).cast::<c_void>(),
        );
    }
    Some(value)
}

/// The text of a description; none where the value is of something else or empty.
pub(super) fn text(value: &glib::Value) -> Option<String> {
    if Some(value.type_()) != its_type() {
        return None;
    }
    // SAFETY: `value` is of the boxed type whose structure `Description` is, so that what lies in it is null or points to one, which lives as
    // long as `value` does, and is not written to by anybody else: webrtcbin hands out copies.
    let sdp = unsafe {
        let description =
            glib::gobject_ffi::g_value_get_boxed(value.to_glib_none().0).cast::<Description>();
        description.as_ref()?.sdp
    };
    if sdp.is_null() {
        return None;
    }
    // SAFETY: it is not null, and a message that lives as long as its description; it is copied here.
    let sdp: SDPMessage = unsafe { from_glib_none(sdp.cast_const()) };
    sdp.as_text().ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use gst::glib::prelude::*;

    use super::*;

    #[test]
    fn a_description_keeps_its_text_and_no_other_value_is_one() {
        gst::init().unwrap();
        let Ok(_peer) = gst::ElementFactory::make("webrtcbin").build() else {
            println!("skipped: there is no webrtcbin (Debian: gstreamer1.0-plugins-bad)");
            return;
        };
        let words = "v=0\r\no=- 7 0 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n";
        let sdp = SDPMessage::parse_buffer(words.as_bytes()).unwrap();
        let value = describe(ANSWER, &sdp).unwrap();
        drop(sdp);
        assert_eq!(text(&value.clone()).unwrap(), words);
        assert_eq!(text(&glib::Value::from_type(its_type().unwrap())), None);
        assert_eq!(text(&"words".to_value()), None);
    }
}
