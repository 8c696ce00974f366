//! The images of an archive on disk. An archive is a stranger's: nothing is written outside the folder, nor more than the limits allow,
//! whatever its headers say.

use std::{
    fs::{self, File},
    io::{self, Read as _},
    path::Path,
};

use perito_domain::{
    limits::{MAX_ARCHIVE_ENTRIES, MAX_UNPACKED_BYTES, MAX_UNPACKED_RATIO, MAX_UPLOAD_BYTES},
    photograph::media_type,
};
use zip::{ZipArchive, result::ZipError};

use super::Error;

/// What an archive may hold.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Files and folders.
    pub entries: usize,
    /// Bytes of all files together, unpacked.
    pub bytes: u64,
    /// Bytes of one file, unpacked.
    pub file_bytes: u64,
    /// How many times larger than the archive they may be together. Photographs hardly shrink.
    pub ratio: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            entries: MAX_ARCHIVE_ENTRIES,
            bytes: MAX_UNPACKED_BYTES,
            file_bytes: MAX_UPLOAD_BYTES,
            ratio: MAX_UNPACKED_RATIO,
        }
    }
}

/// What was unpacked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Unpacked {
    /// Images.
    pub images: u64,
    /// Other files, which are left in the archive.
    pub skipped: u64,
    /// Bytes of the images.
    pub bytes: u64,
}

/// Unpacks the images of an archive into a folder that is empty.
///
/// # Errors
/// [`Error::Archive`] names the entry that leads out of the folder, is a link, is encrypted or damaged, or breaks a limit.
pub fn unpack(archive: &Path, folder: &Path, limits: &Limits) -> Result<Unpacked, Error> {
    let file = File::open(archive).map_err(Error::file("open", archive))?;
    let packed = file.metadata().map_err(Error::file("look at", archive))?.len();
    let refuse = |problem: String| Err(Error::Archive(problem));
    let mut zip = ZipArchive::new(io::BufReader::new(file)).map_err(damaged)?;
    if zip.len() > limits.entries {
        return refuse(format!("it has {} entries, more than {}", zip.len(), limits.entries));
    }
    // The same bytes in many entries: a bomb that no ratio of one entry shows.
    if zip.has_overlapping_files().map_err(damaged)? {
        return refuse("its entries overlap".to_owned());
    }
    let most = limits.bytes.min(packed.saturating_mul(limits.ratio));
    let mut unpacked = Unpacked::default();
    for index in 0..zip.len() {
        let mut entry = zip.by_index(index).map_err(damaged)?;
        let name = entry.name().map_err(damaged)?.into_owned();
        let Some(path) = entry.enclosed_name().filter(|_| goes_down(&name)) else {
            return refuse(format!("{name:?} leads out of the folder"));
        };
        if entry.is_symlink() {
            return refuse(format!("{name:?} is a link"));
        }
        if entry.is_dir() {
            continue;
        }
        if media_type(&name).is_none() {
            unpacked.skipped += 1;
            continue;
        }
        let target = folder.join(path);
        let parent = target.parent().unwrap_or(folder);
        fs::create_dir_all(parent).map_err(Error::file("make the folder", parent))?;
        // A name that comes twice would replace a file.
        let mut output = File::create_new(&target).map_err(Error::file("write", &target))?;
        let allowed = limits.file_bytes.min(most - unpacked.bytes);
        // One more than allowed, to see that there is more.
        let written = io::copy(&mut (&mut entry).take(allowed + 1), &mut output);
        let written = written.map_err(|error| Error::Archive(format!("{name:?}: {error}")))?;
        if written > allowed {
            return refuse(format!(
                "{name:?} would make more than {allowed} bytes: a file may have {}, all of them {most} ({} times the archive at most)",
                limits.file_bytes, limits.ratio
            ));
        }
        unpacked.images += 1;
        unpacked.bytes += written;
    }
    Ok(unpacked)
}

/// Whether a name leads down and nowhere else, as it is written: nobody has a reason to write `a/../b`.
fn goes_down(name: &str) -> bool {
    !name.starts_with('/') && !name.contains('\\') && name.split('/').all(|part| part != "..")
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn damaged(error: ZipError) -> Error {
    Error::Archive(error.to_string())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::io::{Cursor, Write};

    use zip::{CompressionMethod, ZipWriter, write::SimpleFileOptions};

    use super::*;

    fn limits() -> Limits {
        Limits { entries: 10, bytes: 100_000, file_bytes: 50_000, ratio: 10 }
    }

    fn archive(entries: &[(&str, &[u8])]) -> Vec<u8> {
        let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
        let options = SimpleFileOptions::default().compression_method(CompressionMethod::Deflated);
        for (name, bytes) in entries {
            zip.start_file(*name, options).unwrap();
            zip.write_all(bytes).unwrap();
        }
        zip.finish().unwrap().into_inner()
    }

    fn run(bytes: &[u8], limits: &Limits) -> (Result<Unpacked, String>, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let (zip, target) = (folder.path().join("a.zip"), folder.path().join("out"));
        fs::write(&zip, bytes).unwrap();
        fs::create_dir(&target).unwrap();
        (unpack(&zip, &target, limits).map_err(|error| error.to_string()), folder)
    }

    #[test]
    fn images_come_out_and_the_rest_stays() {
        let bytes = archive(&[
            ("d/training/minor/a.jpg", b"first"),
            ("readme.txt", b"no"),
            ("d/training/minor/b.PNG", b"second"),
        ]);
        let (unpacked, folder) = run(&bytes, &limits());
        assert_eq!(unpacked.unwrap(), Unpacked { images: 2, skipped: 1, bytes: 11 });
        assert_eq!(fs::read(folder.path().join("out/d/training/minor/b.PNG")).unwrap(), b"second");
        assert!(!folder.path().join("out/readme.txt").exists());
    }

    #[test]
    fn nothing_is_written_outside() {
        for name in ["../evil.jpg", "a/../../evil.jpg", "/evil.jpg", "a/../evil.jpg", "..\\evil.jpg"] {
            // The library writes no such names: one of the same length is replaced in both headers.
            let harmless = "x".repeat(name.len() - 4) + ".jpg";
            let mut bytes = archive(&[(&harmless, b"content")]);
            for start in 0..bytes.len() - name.len() {
                if bytes[start..].starts_with(harmless.as_bytes()) {
                    bytes[start..start + name.len()].copy_from_slice(name.as_bytes());
                }
            }
            let (refused, folder) = run(&bytes, &limits());
            let refused = refused.unwrap_err();
            assert!(refused.contains("leads out of the folder") && refused.contains("evil"), "{name}: {refused}");
            assert!(!folder.path().join("evil.jpg").exists() && !folder.path().join("out/evil.jpg").exists(), "{name}");
        }
        let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
        zip.add_symlink("a.jpg", "/etc/passwd", SimpleFileOptions::default()).unwrap();
        let (refused, _folder) = run(&zip.finish().unwrap().into_inner(), &limits());
        assert!(refused.unwrap_err().contains("is a link"));
    }

    #[test]
    fn bombs_do_not_go_off() {
        let zeros = vec![0; 45_000];
        let (ratio, folder) = run(&archive(&[("a.jpg", &zeros)]), &limits());
        assert!(ratio.unwrap_err().contains("10 times the archive"));
        let written = fs::metadata(folder.path().join("out/a.jpg")).unwrap().len();
        assert!(written < 5_000, "stopped in time: {written}");
        let generous = Limits { ratio: 100_000, ..limits() };
        assert!(run(&archive(&[("a.jpg", &[0; 60_000])]), &generous).0.unwrap_err().contains("a file may have 50000"));
        let three: Vec<(&str, &[u8])> = ["a.jpg", "b.jpg", "c.jpg"].map(|name| (name, zeros.as_slice())).to_vec();
        assert!(run(&archive(&three), &generous).0.unwrap_err().contains("\"c.jpg\""), "all together");
        let names: Vec<String> = (0..11).map(|n| format!("{n}.jpg")).collect();
        let many: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), b"x".as_slice())).collect();
        assert!(run(&archive(&many), &limits()).0.unwrap_err().contains("11 entries"));
    }

    #[test]
    fn damage_is_told() {
        let mut bytes = archive(&[("a.jpg", &(0..200).map(|n| (n * 7 % 251) as u8).collect::<Vec<_>>())]);
        assert!(run(&bytes[..bytes.len() / 2], &limits()).0.unwrap_err().contains("cannot be unpacked"));
        bytes[60] ^= 0xff;
        assert!(run(&bytes, &limits()).0.unwrap_err().contains("a.jpg"));
        assert!(run(b"<html>not an archive</html>", &limits()).0.is_err());
    }
}
