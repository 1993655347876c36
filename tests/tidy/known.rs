//! What stands against the rules of rooms (`tests/tidy/rooms.rs`) today. Each list may only become shorter: what is mended
//! must leave it in the same commit, and nothing may join it.

/// Sets of files that use each other.
pub const CIRCLES: [&str; 0] = [];

/// Names that several types of a room have.
pub const TYPES: [&str; 0] = [];

/// Files for tests alone outside of a folder `tests/`.
pub const TEST_FILES: [&str; 0] = [];

/// Folders whose module stands beside them.
pub const FOLDERS_WITHOUT_MOD: [&str; 0] = [];
