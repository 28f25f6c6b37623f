//! The root file system as a tar archive, as `docker export` gives one: owned by root, without a leading `./`.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::Path;

use tar::{Builder, EntryType, Header, HeaderMode};

use super::tree::{Entry, Kind, TIME};

/// Writes it, in the plan's order; the same tree makes the same bytes.
pub(crate) fn write(root: &Path, plan: &[Entry], archive: &Path) -> io::Result<()> {
    let mut builder = Builder::new(BufWriter::new(File::create(archive)?));
    builder.mode(HeaderMode::Deterministic);
    for entry in plan {
        let mut header = Header::new_ustar();
        header.set_mode(entry.mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_username("root")?;
        header.set_groupname("root")?;
        header.set_mtime(TIME);
        header.set_size(0);
        match &entry.kind {
            Kind::Directory => {
                header.set_entry_type(EntryType::Directory);
                builder.append_data(&mut header, format!("{}/", entry.path), io::empty())?;
            }
            Kind::HardLink(target) => {
                header.set_entry_type(EntryType::Link);
                builder.append_link(&mut header, &entry.path, target)?;
            }
            Kind::SymbolicLink(target) => {
                header.set_entry_type(EntryType::Symlink);
                builder.append_link(&mut header, &entry.path, target)?;
            }
            Kind::Text(_) | Kind::Program(_) | Kind::Copy(_) => {
                let path = root.join(&entry.path);
                header.set_entry_type(EntryType::Regular);
                header.set_size(fs::metadata(&path)?.len());
                builder.append_data(&mut header, &entry.path, File::open(path)?)?;
            }
        }
    }
    builder.into_inner()?.flush()
}
