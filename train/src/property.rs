//! Properties of the element by name and text, as `--set NAME=VALUE` on the command line has them.

use gst::prelude::*;

use crate::outcome::{Failure, Outcome};

/// Reads a name and a value.
pub(crate) fn setting(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("wanted NAME=VALUE")?;
    Ok((name.into(), value.into()))
}

/// Sets a property as a launch line would, or says why it cannot be.
pub(crate) fn set(element: &gst::Element, name: &str, value: &str) -> Outcome {
    let wrong = |what: String| Failure::Arguments(format!("--set {name}={value}: {what}"));
    let spec = element.find_property(name);
    let spec = spec.filter(|spec| spec.flags().contains(gst::glib::ParamFlags::WRITABLE));
    let spec = spec.ok_or_else(|| {
        wrong(
            "wanted a property of the element that can be set; `gst-inspect-1.0 acdclip` lists them"
                .into(),
        )
    })?;
    let read = gst::glib::Value::deserialize_with_pspec(value, &spec);
    let read = read.map_err(|_| wrong(format!("wanted a value of type {}", spec.value_type())))?;
    if !is_in_range(&spec, &read) {
        return Err(wrong("out of the property's range".into()));
    }
    element.set_property_from_value(name, &read);
    Ok(())
}

/// Whether a number is one that the property takes; a value that is no number is.
fn is_in_range(spec: &gst::glib::ParamSpec, value: &gst::glib::Value) -> bool {
    use gst::glib::{ParamSpecDouble, ParamSpecInt, ParamSpecUInt, ParamSpecUInt64};
    macro_rules! check {
        ($($kind:ty: $number:ty),*) => {
            $(if let Some(spec) = spec.downcast_ref::<$kind>() {
                let range = spec.minimum()..=spec.maximum();
                return value.get::<$number>().is_ok_and(|value| range.contains(&value));
            })*
        };
    }
    check!(ParamSpecDouble: f64, ParamSpecInt: i32, ParamSpecUInt: u32, ParamSpecUInt64: u64);
    true
}
