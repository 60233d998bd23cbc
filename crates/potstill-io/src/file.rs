//! Safetensors files on disk.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::atomic::write_atomic;
use crate::dtype::Dtype;
use crate::error::{HeaderError, IoError};
use crate::header::{Header, TensorInfo};
use crate::layout::{TensorSpec, layout_header};
use crate::map::Map;

/// A memory-mapped safetensors file. Cloning shares the map.
///
/// Pages are read when touched; in WASM, which has no maps, a tensor is read when it is asked for. As with every map, another program that truncates the file meanwhile makes a touch of
/// the lost part fatal (SIGBUS): use it on files of one's own, and ranged reads on those of others.
#[derive(Clone)]
pub struct SafetensorsFile {
    path: PathBuf,
    map: Arc<Map>,
    header: Arc<Header>,
}

/// A tensor of a mapped file.
#[derive(Clone)]
pub struct TensorView<'a> {
    /// Element type.
    pub dtype: Dtype,
    /// Shape.
    pub shape: &'a [usize],
    /// Little-endian elements in row-major order.
    pub bytes: Cow<'a, [u8]>,
}

impl TensorView<'_> {
    /// The values as f32: exact for f16, bf16 and f32, rounded for f64.
    ///
    /// # Errors
    /// [`HeaderError::NotFloat`] for other types.
    pub fn to_f32(&self) -> Result<Vec<f32>, HeaderError> {
        self.dtype.to_f32(&self.bytes)
    }
}

impl SafetensorsFile {
    /// Maps a file and checks its header.
    ///
    /// # Errors
    /// [`IoError`] naming the file.
    pub fn open(path: &Path) -> Result<Self, IoError> {
        let map = Map::open(path)?;
        let header = map.header()?;
        Ok(Self {
            path: path.to_owned(),
            map: Arc::new(map),
            header: Arc::new(header),
        })
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its header.
    #[must_use]
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The names, in the order of the data.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.header.tensors().iter().map(|t| t.name.as_str())
    }

    /// A tensor.
    ///
    /// # Errors
    /// [`HeaderError::NoSuchTensor`], with the file's name.
    pub fn tensor(&self, name: &str) -> Result<TensorView<'_>, IoError> {
        match self.header.get(name) {
            Some(info) => self.view(info),
            None => Err(IoError::safetensors(&self.path)(HeaderError::NoSuchTensor {
                name: name.to_owned(),
            })),
        }
    }

    /// A tensor's values as f32.
    ///
    /// # Errors
    /// As [`SafetensorsFile::tensor`] and [`TensorView::to_f32`].
    pub fn tensor_f32(&self, name: &str) -> Result<Vec<f32>, IoError> {
        self.tensor(name)?.to_f32().map_err(IoError::safetensors(&self.path))
    }

    /// Gives a tensor's pages back to the system once its values have been taken, so that loading a model needs the
    /// memory of one copy of it, not of two. Reading the tensor again reads it from the disk again.
    pub fn release(&self, name: &str) {
        if let Some(info) = self.header.get(name) {
            let start = self.header.data_start() + info.start;
            self.map.release(start, info.bytes());
        }
    }

    fn view<'a>(&'a self, info: &'a TensorInfo) -> Result<TensorView<'a>, IoError> {
        let start = self.header.data_start() + info.start;
        Ok(TensorView {
            dtype: info.dtype,
            shape: &info.shape,
            bytes: self.map.bytes(start, info.bytes())?,
        })
    }
}

/// What [`write_safetensors`] asks for a tensor's data: index into the specs and where the bytes go.
pub type TensorWrite<'a> = dyn FnMut(usize, &mut dyn Write) -> std::io::Result<()> + 'a;

/// Writes a file atomically. `data(i, writer)` writes the little-endian bytes of `specs[i]`; it is called once for each
/// tensor, in the order of the file, so that no more than one tensor need exist in converted form.
///
/// # Errors
/// [`IoError`]; among others when `data` writes another number of bytes than the shape has.
pub fn write_safetensors(
    path: &Path,
    specs: &[TensorSpec],
    metadata: &BTreeMap<String, String>,
    data: &mut TensorWrite<'_>,
) -> Result<(), IoError> {
    let (header, order) = layout_header(specs, metadata).map_err(IoError::safetensors(path))?;
    write_atomic(path, |writer| {
        writer.write_all(&header).map_err(IoError::system("write", path))?;
        for i in order {
            let mut counted = Counted {
                inner: writer,
                bytes: 0,
            };
            data(i, &mut counted).map_err(IoError::system("write", path))?;
            let (spanned, needed) = (counted.bytes, specs[i].bytes());
            if spanned != needed {
                let name = specs[i].name.clone();
                return Err(IoError::safetensors(path)(HeaderError::SizeMismatch {
                    name,
                    needed,
                    spanned,
                }));
            }
        }
        Ok(())
    })
}

struct Counted<'a> {
    inner: &'a mut dyn Write,
    bytes: u64,
}

impl Write for Counted<'_> {
    fn write(&mut self, data: &[u8]) -> std::io::Result<usize> {
        let n = self.inner.write(data)?;
        self.bytes += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::f32_to_bytes;

    fn specs() -> Vec<TensorSpec> {
        vec![
            TensorSpec {
                name: "h".into(),
                dtype: Dtype::F16,
                shape: vec![2, 3],
            },
            TensorSpec {
                name: "f".into(),
                dtype: Dtype::F32,
                shape: vec![4],
            },
        ]
    }

    #[test]
    fn round_trip_and_the_reference_reader_agree() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.safetensors");
        let metadata = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
        let values: Vec<f32> = (0..6).map(|i| i as f32 / 4.0).collect();
        write_safetensors(&path, &specs(), &metadata, &mut |i, w| {
            let spec = &specs()[i];
            w.write_all(&f32_to_bytes(&values[..spec.shape.iter().product()], spec.dtype).unwrap())
        })
        .unwrap();

        let file = SafetensorsFile::open(&path).unwrap();
        assert_eq!(file.names().collect::<Vec<_>>(), ["f", "h"]);
        assert_eq!(file.tensor_f32("h").unwrap(), values);
        assert_eq!(file.tensor("f").unwrap().shape, [4]);
        assert!(
            file.tensor_f32("x")
                .unwrap_err()
                .to_string()
                .contains("no tensor \"x\"")
        );

        let bytes = std::fs::read(&path).unwrap();
        let reference = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        assert_eq!(reference.tensor("h").unwrap().shape(), [2, 3]);
        assert_eq!(reference.tensor("f").unwrap().data(), &*file.tensor("f").unwrap().bytes);
    }

    #[test]
    fn wrong_amounts_of_data_leave_no_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.safetensors");
        let error = write_safetensors(&path, &specs(), &BTreeMap::new(), &mut |_, w| w.write_all(&[0])).unwrap_err();
        assert!(error.to_string().contains("needs 16 bytes"), "{error}");
        assert!(std::fs::read_dir(folder.path()).unwrap().next().is_none());
    }

    #[test]
    fn truncated_and_empty_files_are_errors() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.safetensors");
        std::fs::write(&path, b"").unwrap();
        assert!(matches!(
            SafetensorsFile::open(&path),
            Err(IoError::Safetensors {
                source: HeaderError::TooShort { .. },
                ..
            })
        ));
        assert!(matches!(
            SafetensorsFile::open(&folder.path().join("none")),
            Err(IoError::System { .. })
        ));
    }
}
