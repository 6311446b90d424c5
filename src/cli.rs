//! The command-line face of the workbench.
