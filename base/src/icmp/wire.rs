//! Header fields, read and written with their bounds.
