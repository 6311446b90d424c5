//! The terminal face of the workbench: keys, screens, widgets.
