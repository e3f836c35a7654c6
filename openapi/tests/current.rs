//! The committed files are what the program says.

#[test]
fn the_committed_files_are_current() {
    for artifact in skep_openapi::artifacts().unwrap() {
        artifact.check().unwrap();
    }
}
