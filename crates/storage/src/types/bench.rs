//! What the tests of the types stand on: an empty database, and whose keys they see.

use crate::key::DEFAULT_NAMESPACE;
use crate::{Options, Scope, Store};

/// Outside cluster mode, in the first millisecond.
pub(super) const SCOPE: Scope<'static> =
    Scope { namespace: DEFAULT_NAMESPACE, cluster: false, now_ms: 1 };

/// An empty database, and the folder that it is gone with.
pub(super) fn store() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { block_cache_size: 1 << 20, ..Options::default() };
    let store = Store::open(dir.path(), options).unwrap();
    (dir, store)
}
