//! Whether the place of a file would take a store: tried before the store that it is made of is
//! given up.

use std::io::{Read as _, Seek as _, Write as _};
use std::path::Path;

use crate::store::whole::Export;
use crate::store::{StoreError, failed};

/// What a file has beside its content: tables, and pages that are not full.
const SPARE_BYTES: usize = 1 << 20;
/// Written at a time.
const PIECE_BYTES: usize = 64 << 10;

/// Writes a file of the size that is to come beside it, to the disk, and reads it back; it is gone
/// at the end.
///
/// # Errors
/// The folder is not there or not to be written to, or has no room.
pub(in crate::store) fn try_out(path: &Path, export: &Export) -> Result<(), StoreError> {
    let text = serde_json::to_string(export).map_err(failed("encode the store"))?;
    // A change writes pages anew before it frees the old ones.
    let bytes = text.len().saturating_mul(2).saturating_add(SPARE_BYTES);
    let folder = path.parent().filter(|folder| *folder != Path::new("")).unwrap_or(Path::new("."));
    tried(folder, bytes).map_err(|cause| {
        StoreError::Unusable(format!(
            "{} does not take {} KiB beside {}: {cause}. Make room there, or say another `data` file",
            folder.display(),
            bytes.div_ceil(1024),
            path.display()
        ))
    })
}

fn tried(folder: &Path, bytes: usize) -> std::io::Result<()> {
    let mut file = tempfile::Builder::new().prefix(".store-").tempfile_in(folder)?;
    let piece = vec![0x5a; PIECE_BYTES];
    let pieces = bytes.div_ceil(PIECE_BYTES);
    for _ in 0..pieces {
        file.write_all(&piece)?;
    }
    file.as_file().sync_all()?;
    file.rewind()?;
    let mut read = vec![0; PIECE_BYTES];
    for _ in 0..pieces {
        file.read_exact(&mut read)?;
        if read != piece {
            return Err(std::io::Error::other("what is read back is not what was written"));
        }
    }
    Ok(())
}
