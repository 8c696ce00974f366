//! Decoded pixels between epochs: in memory as far as it goes, then in a file on local disk, then nowhere.

use std::{borrow::Cow, fs::File, io, ops::Deref, os::unix::fs::FileExt, sync::Arc};

use perito_vision::Pixels;

/// How much may be kept.
#[derive(Debug, Clone, Copy)]
pub struct CacheLimits {
    /// Bytes in memory.
    pub memory: u64,
    /// Bytes on disk.
    pub disk: u64,
}

impl CacheLimits {
    /// The limits of each of two caches that share these.
    pub fn halved(self) -> Self {
        Self { memory: self.memory / 2, disk: self.disk / 2 }
    }
}

/// Keeps pictures for one task. Its file has no name, so it is gone with the last reader, however the process ends.
pub struct PixelCache {
    free: CacheLimits,
    file: Option<Arc<File>>,
    written: u64,
}

/// Where a picture is.
#[derive(Clone)]
pub enum Kept {
    /// In memory.
    InMemory(Arc<Pixels>),
    /// At this place of a file.
    OnDisk {
        /// The file.
        file: Arc<File>,
        /// Of the first byte.
        offset: u64,
        /// In pixels.
        side: u32,
    },
    /// It has to be loaded again.
    Nowhere,
}

impl PixelCache {
    /// An empty cache.
    pub fn new(limits: CacheLimits) -> Self {
        Self { free: limits, file: None, written: 0 }
    }

    /// Keeps a picture where there is room.
    pub fn keep(&mut self, pixels: Pixels) -> Kept {
        let bytes = pixels.as_bytes().len() as u64;
        if bytes <= self.free.memory {
            self.free.memory -= bytes;
            return Kept::InMemory(Arc::new(pixels));
        }
        if bytes > self.free.disk {
            return Kept::Nowhere;
        }
        match self.write(&pixels) {
            Ok(kept) => {
                self.free.disk -= bytes;
                kept
            }
            Err(error) => {
                // The disk is full, or there is none: the store has the picture still.
                tracing::warn!(error = %error, "the cache of decoded images on disk ends here");
                self.free.disk = 0;
                Kept::Nowhere
            }
        }
    }

    fn write(&mut self, pixels: &Pixels) -> io::Result<Kept> {
        let file = match &self.file {
            Some(file) => Arc::clone(file),
            None => Arc::clone(self.file.insert(Arc::new(tempfile::tempfile()?))),
        };
        let offset = self.written;
        file.write_all_at(pixels.as_bytes(), offset)?;
        self.written += pixels.as_bytes().len() as u64;
        Ok(Kept::OnDisk { file, offset, side: pixels.side() })
    }
}

impl Kept {
    /// The picture.
    ///
    /// # Errors
    /// A disk that fails, or a picture that is nowhere.
    pub fn read(&self) -> io::Result<impl Deref<Target = Pixels>> {
        match self {
            Self::InMemory(pixels) => Ok(Cow::Borrowed(&**pixels)),
            Self::OnDisk { file, offset, side } => {
                let mut bytes = vec![0; *side as usize * *side as usize * 3];
                file.read_exact_at(&mut bytes, *offset)?;
                Pixels::new(*side, bytes).map(Cow::Owned).ok_or_else(|| io::ErrorKind::InvalidData.into())
            }
            Self::Nowhere => Err(io::ErrorKind::NotFound.into()),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn memory_first_then_disk_then_nothing() {
        let picture = |value: u8| Pixels::new(4, vec![value; 48]).unwrap();
        let mut cache = PixelCache::new(CacheLimits { memory: 100, disk: 100 });
        let kept: Vec<Kept> = (0..6).map(|value| cache.keep(picture(value))).collect();
        drop(cache);
        assert!(matches!(
            kept.as_slice(),
            [
                Kept::InMemory(_),
                Kept::InMemory(_),
                Kept::OnDisk { .. },
                Kept::OnDisk { .. },
                Kept::Nowhere,
                Kept::Nowhere
            ]
        ));
        for (value, kept) in (0..4).zip(&kept) {
            assert_eq!(*kept.read().unwrap(), picture(value));
        }
        assert!(kept[4].read().is_err());
    }
}
