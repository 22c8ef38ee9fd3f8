//! Why a snapshot was not written or read.

/// The largest snapshot that is saved or read. A command waits for the read, and the snapshot has to fit into a
/// message.
pub(crate) const MAX_BYTES: usize = 512 * 1024;

/// Why a state is not saved.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WriteFault {
    #[error("it takes more than {MAX_BYTES} bytes")]
    TooLarge,
    #[error("its state cannot be written: {0}")]
    Refused(String),
    #[error("its state does not come back as it was written: {0}")]
    Unfaithful(#[source] ReadFault),
}

/// Why a snapshot is discarded.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadFault {
    #[error("it is in a format that this program does not read")]
    Format,
    #[error("it is damaged")]
    Damaged,
    #[error("the aggregate gives its snapshots version {wanted}, and this one has {found}")]
    Version { wanted: u32, found: u32 },
    #[error("the state cannot be read: {0}")]
    Undecodable(String),
    #[error("the state has another shape")]
    Shape,
}
