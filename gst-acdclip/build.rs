//! Gives the plugin description the commit and the date it was built from.

fn main() {
    gst_plugin_version_helper::info();
}
