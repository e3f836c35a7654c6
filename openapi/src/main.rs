//! Writes the committed files of the API: `cargo run -p skep-openapi`.

use std::io::Write;

fn main() -> anyhow::Result<()> {
    for artifact in skep_openapi::artifacts()? {
        let what = if artifact.write()? { "written" } else { "up to date" };
        writeln!(std::io::stdout(), "{}: {what}", artifact.path.display())?;
    }
    Ok(())
}
