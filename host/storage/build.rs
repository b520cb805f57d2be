//! Lists `migrations/{sqlite,postgres,clickhouse}/` into a Rust source, so that the binary carries every migration and a
//! new pair of files needs no other change. Fails the build when a pair is incomplete or a number is used twice.

use std::error::Error;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

fn main() -> Result<(), Box<dyn Error>> {
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?).join("../../migrations").canonicalize()?;
    let mut source = String::new();
    for database in ["sqlite", "postgres", "clickhouse"] {
        let directory = root.join(database);
        println!("cargo:rerun-if-changed={}", directory.display());
        writeln!(source, "pub(crate) const {}: &[Migration] = &[", database.to_uppercase())?;
        for migration in list(&directory)? {
            writeln!(source, "    {migration},")?;
        }
        writeln!(source, "];")?;
    }
    fs::write(PathBuf::from(env::var("OUT_DIR")?).join("migrations.rs"), source)?;
    Ok(())
}

/// The directory's migrations as expressions, in the order of their numbers.
fn list(directory: &Path) -> Result<Vec<String>, Box<dyn Error>> {
    let mut ups = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        println!("cargo:rerun-if-changed={}", path.display());
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if let Some(stem) = name.strip_suffix(".up.sql") {
            ups.push(stem.to_owned());
        } else if !name
            .strip_suffix(".down.sql")
            .is_some_and(|stem| path.with_file_name(format!("{stem}.up.sql")).exists())
        {
            return Err(format!("{}: neither *.up.sql nor the *.down.sql of one", path.display()).into());
        }
    }
    ups.sort();
    let mut last = 0;
    let mut migrations = Vec::new();
    for stem in ups {
        let (number, name) = stem.split_once('_').ok_or_else(|| format!("{stem}: NNNN_name is expected"))?;
        let version: u32 = number.parse()?;
        if version <= last {
            return Err(format!("{stem}: {version} is used twice").into());
        }
        last = version;
        let (up, down) =
            (directory.join(format!("{stem}.up.sql")), directory.join(format!("{stem}.down.sql")));
        migrations.push(format!(
            "Migration {{ version: {version}, name: {name:?}, up: include_str!({up:?}), down: include_str!({down:?}) }}"
        ));
    }
    Ok(migrations)
}
