//! Drawing that several screens use.
