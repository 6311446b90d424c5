//! Holds the table of who may import whom.
