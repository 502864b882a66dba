//! The files that a guest has open, and paths that are answered without the
//! host. Mounts, overlays and a full `/proc` come with the sandbox; until
//! then every other path is one of the host's.

pub(crate) mod fd;
pub(crate) mod synthetic;

pub(crate) use fd::{FdTable, FileKind, OpenFile};
